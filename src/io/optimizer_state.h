#pragma once

#include <hopfield/io/safetensors.h>

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <functional>
#include <string>

namespace hopfield::io::detail {

/// What a file holds of an optimizer.
struct OptimizerRecord {
  std::string description;  ///< JSON: the type, and for each group its options and its parameters' names
  TensorDict tensors;       ///< "<parameter>.<field>"
};

/// @throws c10::Error beginning with `where` for an optimizer other than Adam, AdamW and SGD, or one that holds a
/// tensor that is no parameter of the module.
OptimizerRecord record_optimizer(const torch::optim::Optimizer& optimizer, const torch::nn::Module& module,
                                 const std::string& where);

/// Checks a record against an optimizer and returns what puts it there. Nothing is changed before that is called.
/// @throws c10::Error beginning with `where` if the record is not one of an optimizer of the same type and groups.
std::function<void()> plan_optimizer(torch::optim::Optimizer& optimizer, const torch::nn::Module& module,
                                     const OptimizerRecord& record, const std::string& where);

}  // namespace hopfield::io::detail
