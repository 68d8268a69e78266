#pragma once

#include <hopfield/io/safetensors.h>

#include <torch/arg.h>
#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace hopfield::io {

/// The parameters and then the buffers of a module and of its submodules, under PyTorch's names ("encoder.0.weight").
/// The tensors are detached and share the module's memory.
TensorDict state_dict(const torch::nn::Module& module);

/// How load_state_dict() and load_module() treat names that do not match.
struct LoadOptions {
  /// Whether anything missing, unexpected or mismatched is an error; otherwise what matches is loaded.
  TORCH_ARG(bool, strict) = true;
  /// Names that end so may be missing: the default is a parameter that the Python package computes instead.
  TORCH_ARG(std::vector<std::string>, optional_suffixes) = {"association_core.scaling"};
};

/// Names that were not loaded.
struct LoadReport {
  std::vector<std::string> missing;     ///< in the module but not given, other than optional ones
  std::vector<std::string> unexpected;  ///< given but not in the module
  std::vector<std::string> mismatched;  ///< in both, but with another shape, or complex for real
};

/// Copies tensors into a module's parameters and buffers of the same names, converted to the module's types and
/// devices. Everything is checked and converted before the first tensor is changed.
/// @throws c10::Error naming all that does not match, with the module unchanged, unless options.strict() is false.
LoadReport load_state_dict(torch::nn::Module& module, const TensorDict& tensors, const LoadOptions& options = {});

/// Writes a module's state_dict() as a safetensors file. See save_safetensors().
void save_module(const std::string& path, const torch::nn::Module& module, const Metadata& metadata = {});

/// Reads a safetensors file, of save_module() or of Python, into a module. See load_safetensors() and
/// load_state_dict().
LoadReport load_module(const std::string& path, torch::nn::Module& module, const LoadOptions& options = {});

}  // namespace hopfield::io
