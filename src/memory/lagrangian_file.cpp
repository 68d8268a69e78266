#include "memory/file.h"
#include <hopfield/memory/lagrangian.h>

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield::memory {
namespace {

constexpr const char* kDynamics[] = {"discrete", "continuous"};
constexpr const char* kLagrangians[] = {"log_sum_exp",    "power",     "rectified_power", "absolute_value",
                                        "spherical_norm", "quadratic", "log_cosh",        "layer_norm"};

/// Options of a Lagrangian stand under the name of its layer: "feature", "feature.beta".
void write_lagrangian(const Lagrangian& lagrangian, const std::string& layer, const std::string& prefix,
                      io::SafetensorsFile& file) {
  TORCH_CHECK(lagrangian.name() != "own", prefix, "expected the ", layer,
              " Lagrangian to be one of this library's in order to be saved, got one of the caller's own; save the "
              "patterns and build the memory anew");
  file.metadata[layer] = lagrangian.name();
  for (const auto& [name, value] : lagrangian.parameters()) file.metadata[layer + "." + name] = detail::text_of(value);
  if (lagrangian.name() == "layer_norm") {
    file.tensors.insert(layer + ".delta", lagrangian.delta().value().detach().contiguous());
  }
}

/// A number or one for each neuron, whichever was written.
PerNeuron per_neuron(const detail::MemoryFile& file, const std::string& name) {
  const auto* found = file.content.tensors.find(name);
  return found != nullptr && found->dim() == 0 ? PerNeuron(*found) : PerNeuron(file.tensor(name, 1));
}

Lagrangian read_lagrangian(const detail::MemoryFile& file, const std::string& layer) {
  const auto number = [&](const char* name) { return file.number(layer + "." + name); };
  const std::string name = kLagrangians[file.choice(layer, kLagrangians)];
  if (name == "log_sum_exp") return Lagrangian::log_sum_exp(number("beta"));
  if (name == "power") return Lagrangian::power(static_cast<int64_t>(number("n")));
  if (name == "rectified_power") return Lagrangian::rectified_power(static_cast<int64_t>(number("n")));
  if (name == "absolute_value") return Lagrangian::absolute_value();
  if (name == "spherical_norm") return Lagrangian::spherical_norm();
  if (name == "quadratic") return Lagrangian::quadratic();
  if (name == "log_cosh") return Lagrangian::log_cosh(number("gain"));
  return Lagrangian::layer_norm(number("gamma"), number("eps"), per_neuron(file, layer + ".delta"));
}

}  // namespace

void LagrangianMemory::write(io::SafetensorsFile& file) const {
  write_lagrangian(settings_.feature, "feature", prefix(), file);
  write_lagrangian(settings_.hidden, "hidden", prefix(), file);
  file.metadata["dynamics"] = kDynamics[static_cast<size_t>(settings_.dynamics)];
  detail::write_ode(settings_.ode, file);
  file.tensors.insert("feature_time_constant", settings_.feature_time_constant.value().detach().contiguous());
  file.tensors.insert("hidden_time_constant", settings_.hidden_time_constant.value().detach().contiguous());
  file.tensors.insert("input", settings_.input.value().detach().contiguous());
  // Backward weights equal those of the other direction.
  if (settings_.weights.defined()) file.tensors.insert("weights", settings_.weights.detach().contiguous());
}

std::unique_ptr<Memory> LagrangianMemory::read(const detail::MemoryFile& file) {
  LagrangianOptions options;
  options.feature(read_lagrangian(file, "feature")).hidden(read_lagrangian(file, "hidden"));
  options.dynamics(static_cast<Dynamics>(file.choice("dynamics", kDynamics)));
  options.feature_time_constant(per_neuron(file, "feature_time_constant"));
  options.hidden_time_constant(per_neuron(file, "hidden_time_constant"));
  options.input(per_neuron(file, "input"));
  options.ode(file.ode());
  if (file.content.tensors.contains("weights")) options.weights(file.tensor("weights", 2));
  auto memory = std::make_unique<LagrangianMemory>(options);
  memory->adopt(file.tensor("patterns", 2));
  return memory;
}

}  // namespace hopfield::memory
