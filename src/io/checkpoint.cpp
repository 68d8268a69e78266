#include "io/load_plan.h"
#include "io/optimizer_state.h"
#include "io/safetensors_header.h"
#include <hopfield/io/checkpoint.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <charconv>
#include <mutex>
#include <utility>
#include <vector>

namespace hopfield::io {
namespace {

using detail::quote;

// Prefixes of the names of a checkpoint's tensors, and keys of its metadata.
constexpr const char* kModel = "model.";
constexpr const char* kOptimizer = "optimizer.";
constexpr const char* kGenerator = "generator.";
constexpr const char* kDefaultGenerator = "default_generator";
constexpr const char* kReserved = "hopfield.";
constexpr const char* kFormatKey = "hopfield.checkpoint";
constexpr const char* kFormat = "1";
constexpr const char* kEpochKey = "hopfield.epoch";
constexpr const char* kOptimizerKey = "hopfield.optimizer";

bool begins_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

/// The generators of a checkpoint, LibTorch's default one included, by the names of their tensors.
Generators with_default(const Generators& generators, const std::string& where) {
  Generators all{{kDefaultGenerator, at::detail::getDefaultCPUGenerator()}};
  for (const auto& [name, generator] : generators) {
    TORCH_CHECK(generator.defined(), where, "expected generator ", quote(name), " to be defined");
    all.emplace(kGenerator + name, generator);
  }
  return all;
}

at::Tensor state_of(at::Generator generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_state_of(at::Generator generator, const at::Tensor& state) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

at::Generator clone_of(at::Generator generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.clone();
}

void insert_all(TensorDict& target, const char* prefix, const TensorDict& tensors) {
  for (const auto& item : tensors) target.insert(prefix + item.key(), item.value());
}

/// The tensors of a checkpoint, divided into its parts. Their names have no prefix here, other than the generators'.
struct Parts {
  TensorDict model;
  detail::OptimizerRecord optimizer;
  TensorDict generators;
};

Parts split(const SafetensorsFile& file, const std::string& where) {
  Parts parts;
  for (const auto& item : file.tensors) {
    const auto& [name, tensor] = item.pair();
    if (begins_with(name, kModel)) {
      parts.model.insert(name.substr(std::string(kModel).size()), tensor);
    } else if (begins_with(name, kOptimizer)) {
      parts.optimizer.tensors.insert(name.substr(std::string(kOptimizer).size()), tensor);
    } else {
      TORCH_CHECK(begins_with(name, kGenerator) || name == kDefaultGenerator, where,
                  "expected tensors of a model, an optimizer and generators, got ", quote(name));
      parts.generators.insert(name, tensor);
    }
  }
  return parts;
}

const std::string& required(const Metadata& metadata, const char* key, const std::string& where) {
  const auto found = metadata.find(key);
  TORCH_CHECK(found != metadata.end(), where, "expected a checkpoint, which has ", quote(key),
              " in its metadata, got a file without it; for a file of tensors use load_module");
  return found->second;
}

CheckpointInfo read_info(const Metadata& metadata, const std::string& where) {
  const auto& format = required(metadata, kFormatKey, where);
  TORCH_CHECK(format == kFormat, where, "expected a checkpoint of version ", kFormat, ", got ", quote(format));
  const auto& epoch = required(metadata, kEpochKey, where);
  CheckpointInfo info;
  const auto* end = epoch.data() + epoch.size();
  const auto parsed = std::from_chars(epoch.data(), end, info.epoch);
  TORCH_CHECK(parsed.ec == std::errc() && parsed.ptr == end, where, "expected ", quote(kEpochKey),
              " to be a whole number, got ", quote(epoch));
  for (const auto& [key, value] : metadata) {
    if (!begins_with(key, kReserved)) info.metadata.emplace(key, value);
  }
  return info;
}

/// Sets the states on clones of the generators, so that setting them on the generators themselves cannot fail later.
void check_generators(const Generators& generators, const TensorDict& states, const std::string& where) {
  for (const auto& [name, generator] : generators) {
    const auto* state = states.find(name);
    TORCH_CHECK(state != nullptr, where, "expected the state of ", quote(name), ", got none");
    try {
      set_state_of(clone_of(generator), *state);
    } catch (const c10::Error& error) {
      TORCH_CHECK(false, where, "expected the state of ", quote(name), ", got a tensor ", state->sizes(), " of type ",
                  state->scalar_type(), " that it refuses: ", error.what_without_backtrace());
    }
  }
  for (const auto& item : states) {
    TORCH_CHECK(generators.count(item.key()) == 1, where, "expected no state of ", quote(item.key()),
                ", for which there is no generator, got one; pass the generators that were saved");
  }
}

}  // namespace

SafetensorsFile make_checkpoint(const torch::nn::Module& module, const torch::optim::Optimizer& optimizer,
                                const CheckpointInfo& info, const Generators& generators) {
  const std::string where = "hopfield::io::make_checkpoint: ";
  SafetensorsFile file;
  file.metadata = info.metadata;
  for (const auto& [key, value] : file.metadata) {
    TORCH_CHECK(!begins_with(key, kReserved), where, "expected metadata keys not to begin with ", quote(kReserved),
                ", got ", quote(key));
  }
  const auto record = detail::record_optimizer(optimizer, module, where);
  file.metadata[kFormatKey] = kFormat;
  file.metadata[kEpochKey] = std::to_string(info.epoch);
  file.metadata[kOptimizerKey] = record.description;
  insert_all(file.tensors, kModel, state_dict(module));
  insert_all(file.tensors, kOptimizer, record.tensors);
  for (const auto& [name, generator] : with_default(generators, where)) file.tensors.insert(name, state_of(generator));
  return file;
}

CheckpointInfo restore_checkpoint(const SafetensorsFile& file, const std::string& source, torch::nn::Module& module,
                                  torch::optim::Optimizer& optimizer, const Generators& generators) {
  const auto where = "hopfield::io::restore_checkpoint: '" + source + "': ";
  auto info = read_info(file.metadata, where);
  auto parts = split(file, where);
  parts.optimizer.description = required(file.metadata, kOptimizerKey, where);

  const auto model_plan = detail::plan_load(module, parts.model, LoadOptions().optional_suffixes({}));
  TORCH_CHECK(model_plan.problem.empty(), where, "expected a checkpoint of this module, got ", model_plan.problem);
  const auto apply_optimizer = detail::plan_optimizer(optimizer, module, parts.optimizer, where);
  const auto all_generators = with_default(generators, where);
  check_generators(all_generators, parts.generators, where);

  detail::apply(model_plan);
  apply_optimizer();
  for (const auto& [name, generator] : all_generators) set_state_of(generator, parts.generators[name]);
  return info;
}

void save_checkpoint(const std::string& path, const torch::nn::Module& module, const torch::optim::Optimizer& optimizer,
                     const CheckpointInfo& info, const Generators& generators) {
  const auto file = make_checkpoint(module, optimizer, info, generators);
  save_safetensors(path, file.tensors, file.metadata);
}

CheckpointInfo load_checkpoint(const std::string& path, torch::nn::Module& module, torch::optim::Optimizer& optimizer,
                               const Generators& generators) {
  return restore_checkpoint(load_safetensors(path), path, module, optimizer, generators);
}

}  // namespace hopfield::io
