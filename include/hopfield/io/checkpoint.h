#pragma once

#include <hopfield/io/safetensors.h>

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <cstdint>
#include <map>
#include <string>

namespace hopfield::io {

/// What a checkpoint says of a training run, beside its tensors.
struct CheckpointInfo {
  int64_t epoch = 0;  ///< epochs completed
  Metadata metadata;  ///< free text, for example the configuration; keys beginning with "hopfield." are reserved
};

/// Generators other than LibTorch's default CPU generator, under names of the caller's choice.
using Generators = std::map<std::string, at::Generator>;

/// Writes a training run to one safetensors file: the module's parameters and buffers, the optimizer's state and
/// options, and the states of the default CPU generator and of `generators`. Gradients are not saved, so save between
/// two training steps.
///
///     hopfield::io::save_checkpoint("run.safetensors", *model, optimizer, {epoch, {{"config", text}}});
///     ...
///     const auto info = hopfield::io::load_checkpoint("run.safetensors", *model, optimizer);
///
/// The optimizer must be torch::optim::Adam, AdamW or SGD and hold parameters of the module only. The previous file
/// stays in place until the new one is complete: see save_safetensors().
/// @throws c10::Error if the optimizer is another one or holds other parameters, or if the file cannot be written.
void save_checkpoint(const std::string& path, const torch::nn::Module& module, const torch::optim::Optimizer& optimizer,
                     const CheckpointInfo& info = {}, const Generators& generators = {});

/// Reads what save_checkpoint() wrote into a module, an optimizer and generators that were made in the same way as the
/// saved ones. On the CPU the run then continues with the same bits as if it had not been interrupted.
/// @throws c10::Error if the file is not a complete checkpoint with the same names, shapes, optimizer type, parameter
/// groups and generators. Module, optimizer and generators are then unchanged.
CheckpointInfo load_checkpoint(const std::string& path, torch::nn::Module& module, torch::optim::Optimizer& optimizer,
                               const Generators& generators = {});

/// save_checkpoint() without the file, for files that hold several runs. The tensors share the memory of module and
/// optimizer, so clone those that have to outlive the next training step.
SafetensorsFile make_checkpoint(const torch::nn::Module& module, const torch::optim::Optimizer& optimizer,
                                const CheckpointInfo& info = {}, const Generators& generators = {});
/// load_checkpoint() from what make_checkpoint() returned. @param source  names the file in error messages
CheckpointInfo restore_checkpoint(const SafetensorsFile& file, const std::string& source, torch::nn::Module& module,
                                  torch::optim::Optimizer& optimizer, const Generators& generators = {});

}  // namespace hopfield::io
