#pragma once

#include <hopfield/io/safetensors.h>

#include <torch/arg.h>
#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace hopfield::io {

/// The parameters and then the buffers of a module and of its submodules, under the names that PyTorch gives them, such
/// as "encoder.0.weight". The tensors are detached and share the module's memory.
TensorDict state_dict(const torch::nn::Module& module);

/// How load_state_dict() and load_module() treat names that do not match.
struct LoadOptions {
  /// Whether a missing, unexpected or mismatched tensor is an error. If not, the tensors that match are loaded.
  TORCH_ARG(bool, strict) = true;
  /// Tensors may be missing if their names end in one of these. The default is a parameter that the Python package
  /// computes from the options instead of saving it.
  TORCH_ARG(std::vector<std::string>, optional_suffixes) = {"association_core.scaling"};
};

/// The names of tensors that were not loaded.
struct LoadReport {
  std::vector<std::string> missing;     ///< in the module but not given; optional ones are left out
  std::vector<std::string> unexpected;  ///< given but not in the module
  std::vector<std::string> mismatched;  ///< in both, but with another shape, or complex for real
};

/// Copies tensors into the module's parameters and buffers of the same names, converted to their types and devices. All
/// tensors are checked and converted before the first one is changed.
/// @throws c10::Error naming all tensors that do not match, unless options.strict() is false. The module is then
/// unchanged.
LoadReport load_state_dict(torch::nn::Module& module, const TensorDict& tensors, const LoadOptions& options = {});

/// Writes a module's state_dict() as a safetensors file. See save_safetensors().
void save_module(const std::string& path, const torch::nn::Module& module, const Metadata& metadata = {});

/// Reads a safetensors file, written by save_module() or by Python, into a module. See load_safetensors() and
/// load_state_dict().
LoadReport load_module(const std::string& path, torch::nn::Module& module, const LoadOptions& options = {});

}  // namespace hopfield::io
