#pragma once

#include <hopfield/io/state_dict.h>

#include <string>
#include <utility>
#include <vector>

namespace hopfield::io::detail {

/// What loading into a module would do.
struct LoadPlan {
  LoadReport report;
  /// The report in words for an error message; empty if all names match.
  std::string problem;
  /// Tensors of the module, and their new values with the same shape, type and device.
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
};

/// Compares and converts; leaves the module as it is.
LoadPlan plan_load(const torch::nn::Module& module, const TensorDict& tensors, const LoadOptions& options);

/// Changes the module.
void apply(const LoadPlan& plan);

}  // namespace hopfield::io::detail
