#pragma once

#include <hopfield/io/safetensors.h>

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <functional>
#include <string>

namespace hopfield::io::detail {

/// An optimizer as it is kept in a file.
struct OptimizerRecord {
  std::string description;  ///< JSON: the type, and for each group its options and the names of its parameters
  TensorDict tensors;       ///< the state, under the names "<parameter>.<field>"
};

/// @param where  begins the error messages
/// @throws c10::Error if the optimizer is not an Adam, AdamW or SGD, or if it holds a tensor that is not a parameter of
///         the module.
OptimizerRecord record_optimizer(const torch::optim::Optimizer& optimizer, const torch::nn::Module& module,
                                 const std::string& where);

/// Checks a record against an optimizer and returns the function that copies it into the optimizer. Nothing is changed
/// before that function is called.
/// @param where  begins the error messages
/// @throws c10::Error if the record is not of an optimizer of the same type with the same groups.
std::function<void()> plan_optimizer(torch::optim::Optimizer& optimizer, const torch::nn::Module& module,
                                     const OptimizerRecord& record, const std::string& where);

}  // namespace hopfield::io::detail
