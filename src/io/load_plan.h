#pragma once

#include <hopfield/io/state_dict.h>

#include <string>
#include <utility>
#include <vector>

namespace hopfield::io::detail {

/// What loading tensors into a module will change.
struct LoadPlan {
  LoadReport report;
  /// The report in words, for an error message. Empty if everything matches.
  std::string problem;
  /// Pairs of a tensor of the module and its new value, which has the same shape, dtype and device.
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
};

/// Compares the tensors with those of the module and converts them. The module stays unchanged.
LoadPlan plan_load(const torch::nn::Module& module, const TensorDict& tensors, const LoadOptions& options);

/// Copies the new values into the module.
void apply(const LoadPlan& plan);

}  // namespace hopfield::io::detail
