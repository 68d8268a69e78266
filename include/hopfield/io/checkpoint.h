#pragma once

#include <hopfield/io/safetensors.h>

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <cstdint>
#include <map>
#include <string>

namespace hopfield::io {

/// What a training run wants to know again when it goes on.
struct CheckpointInfo {
  int64_t epoch = 0;  ///< epochs completed
  Metadata metadata;  ///< free text, for example the configuration; keys beginning with "hopfield." are reserved
};

/// Generators beside LibTorch's default generator of the CPU, under names of the caller's choice.
using Generators = std::map<std::string, at::Generator>;

/// Writes a training run to one safetensors file: the module's parameters and buffers, the optimizer's state and
/// options, the state of the default CPU generator and of `generators`. Gradients are not kept: save between two steps.
///
///     hopfield::io::save_checkpoint("run.safetensors", *model, optimizer, {epoch, {{"config", text}}});
///     ...
///     const auto info = hopfield::io::load_checkpoint("run.safetensors", *model, optimizer);
///
/// The optimizer is torch::optim::Adam, AdamW or SGD over parameters of the module. The previous file stays until the
/// new one is complete: see save_safetensors().
/// @throws c10::Error if the optimizer is another one or holds other parameters, or if the file cannot be written.
void save_checkpoint(const std::string& path, const torch::nn::Module& module, const torch::optim::Optimizer& optimizer,
                     const CheckpointInfo& info = {}, const Generators& generators = {});

/// Restores what save_checkpoint() wrote into a module, an optimizer and generators made in the same way as those
/// saved. The run then goes on as if it had not been interrupted, bit by bit on the CPU.
/// @throws c10::Error if the file is not a complete checkpoint of the same names, shapes, optimizer type and parameter
/// groups, and generators. Module, optimizer and generators are then unchanged.
CheckpointInfo load_checkpoint(const std::string& path, torch::nn::Module& module, torch::optim::Optimizer& optimizer,
                               const Generators& generators = {});

/// The same in memory, for files that hold more than one run. The tensors share the memory of module and optimizer:
/// clone what is kept beyond the next step.
SafetensorsFile make_checkpoint(const torch::nn::Module& module, const torch::optim::Optimizer& optimizer,
                                const CheckpointInfo& info = {}, const Generators& generators = {});
/// @param source  names the file in messages
CheckpointInfo restore_checkpoint(const SafetensorsFile& file, const std::string& source, torch::nn::Module& module,
                                  torch::optim::Optimizer& optimizer, const Generators& generators = {});

}  // namespace hopfield::io
