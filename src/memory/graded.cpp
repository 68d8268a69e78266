#include "memory/file.h"
#include "memory/per_neuron_checks.h"
#include <hopfield/memory/graded.h>

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield::memory {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr const char* kGainFunctions[] = {"tanh", "arctan"};

}  // namespace

/// The constants of the differential equation, in the type and on the device of the patterns.
struct GradedNetwork::Circuit {
  at::Tensor weights;  // [d, d]
  at::Tensor input;    // [d], as the two below
  at::Tensor resistance;
  at::Tensor time_constant;

  /// The current that flows into each neuron at the outputs V [Q, d], which does not count the leak through R.
  at::Tensor current(const at::Tensor& output) const { return output.matmul(weights) + input; }
};

GradedNetwork::GradedNetwork(const GradedOptions& options) : settings_(options.settings()) {
  TORCH_CHECK(settings_.gain > 0 && std::isfinite(settings_.gain), prefix(),
              "expected gain to be positive and finite, got ", settings_.gain);
  TORCH_CHECK(settings_.margin > 0 && settings_.margin < 1, prefix(), "expected margin between 0 and 1, got ",
              settings_.margin, "; choose for example 1e-3");
  detail::check_per_neuron(settings_.time_constant, "time_constant", true, prefix());
  detail::check_per_neuron(settings_.resistance, "resistance", true, prefix());
  detail::check_per_neuron(settings_.input, "input", false, prefix());
}

GradedNetwork::GradedNetwork(const at::Tensor& patterns, const GradedOptions& options) : GradedNetwork(options) {
  adopt(patterns);
}

/// Checks the options that have to fit the patterns.
void GradedNetwork::check_circuit() const {
  const auto stored = patterns();
  const auto width = stored.size(1);
  detail::check_width(settings_.time_constant, "time_constant", width, prefix());
  detail::check_width(settings_.resistance, "resistance", width, prefix());
  detail::check_width(settings_.input, "input", width, prefix());
  const auto& given = settings_.weights;
  if (!given.defined()) return;
  TORCH_CHECK(given.sizes() == at::IntArrayRef({width, width}) && given.scalar_type() == stored.scalar_type() &&
                  given.device() == stored.device(),
              prefix(), "expected weights [", width, ", ", width, "] of type ", stored.scalar_type(), " on ",
              stored.device(), " like the patterns, got ", given.sizes(), " of type ", given.scalar_type(), " on ",
              given.device());
  TORCH_CHECK(at::isfinite(given).all().item<bool>(), prefix(),
              "expected finite weights, got some that are infinite or not a number");
  TORCH_CHECK(given.equal(given.t()), prefix(),
              "expected symmetric weights, without which there is no energy, got others; pass (W + W.t()) / 2");
}

void GradedNetwork::check_outputs(const at::Tensor& outputs, const char* name) const {
  TORCH_CHECK(outputs.abs().le(1).all().item<bool>(), prefix(), "expected ", name,
              " from -1 to 1, got others; they are outputs of neurons");
}

void GradedNetwork::learn(int64_t before) {
  if (before == 0) check_circuit();
  const auto added = patterns().narrow(0, before, size() - before);
  check_outputs(added, "patterns");
  if (settings_.weights.defined()) return;
  const auto products = added.t().matmul(added);
  products_ = before == 0 ? products : products_ + products;
}

void GradedNetwork::unlearn(const at::Tensor& kept, const at::Tensor& removed, const at::Tensor& forgotten) {
  static_cast<void>(removed), static_cast<void>(forgotten);
  if (settings_.weights.defined() || kept.numel() == 0) return;
  products_ = patterns().t().matmul(patterns());
}

at::Tensor GradedNetwork::weights() const {
  const auto width = static_cast<double>(patterns().size(1));
  if (settings_.weights.defined()) return settings_.weights;
  return (products_ / width).fill_diagonal_(0.0);
}

at::Tensor GradedNetwork::per_neuron(const PerNeuron& value) const {
  const auto stored = patterns();
  return value.value().detach().to(stored.device(), stored.scalar_type()).expand({stored.size(1)}).contiguous();
}

GradedNetwork::Circuit GradedNetwork::circuit() const {
  return {weights().detach(), per_neuron(settings_.input), per_neuron(settings_.resistance),
          per_neuron(settings_.time_constant)};
}

at::Tensor GradedNetwork::output_of(const at::Tensor& potential) const {
  if (settings_.gain_function == GainFunction::tanh) return (settings_.gain * potential).tanh();
  return (0.5 * kPi * settings_.gain * potential).atan() * (2.0 / kPi);
}

at::Tensor GradedNetwork::potential_of(const at::Tensor& output) const {
  const auto inside = output.clamp(settings_.margin - 1.0, 1.0 - settings_.margin);
  if (settings_.gain_function == GainFunction::tanh) return inside.atanh() / settings_.gain;
  return (0.5 * kPi * inside).tan() * (2.0 / (kPi * settings_.gain));
}

/// The right-hand side of the differential equation. It needs this memory to live.
core::OdeFunction GradedNetwork::dynamics(const Circuit& network) const {
  return [this, network](const at::Tensor&, const at::Tensor& potential) {
    return (network.current(output_of(potential)) - potential / network.resistance) / network.time_constant;
  };
}

at::Tensor GradedNetwork::energy_of(const at::Tensor& states) const {
  check_outputs(states, "states");
  const auto network = circuit();
  // The integral of g^-1 from 0 to V, in forms that are as exact near -1 and 1 as V itself is. tanh:
  // [V artanh V + 1/2 ln(1 - V^2)] / gain, as the entropy that it is. arctan: -4 / (pi^2 gain) ln cos(pi V / 2).
  const auto integral =
      settings_.gain_function == GainFunction::tanh
          ? (at::special_xlog1py(1 + states, states) + at::special_xlog1py(1 - states, -states)) *
                (0.5 / settings_.gain)
          : (0.5 * kPi * (1 - states.abs())).sin().log() * (-4.0 / (kPi * kPi * settings_.gain));  // [Q, d]
  const auto interaction = -0.5 * states * states.matmul(network.weights);
  return (interaction + integral / network.resistance - network.input * states).sum(-1);
}

Recall GradedNetwork::recall(const at::Tensor& queries, const RecallSettings& settings) const {
  check_outputs(queries, "queries");
  const auto network = circuit();
  const auto is_double = queries.scalar_type() == at::kDouble;
  const auto largest_potential =
      (network.resistance * (network.weights.abs().sum(1) + network.input.abs())).max().item<double>();
  // Without any current, potentials fall to 0. The gain function bends from 1 / gain on.
  const auto scale = largest_potential > 0 ? largest_potential : 1.0 / settings_.gain;
  const auto eps = settings.update_steps_eps.value_or((is_double ? 1e-10 : 1e-5) * scale);
  TORCH_CHECK(eps > 0 && std::isfinite(eps), prefix(), "expected update_steps_eps to be positive and finite, got ", eps,
              "; leave it out to have it chosen");
  auto potential = potential_of(queries);  // [Q, d]
  const auto residual = [&] {
    return (network.resistance * network.current(output_of(potential)) - potential).abs().amax(-1);  // [Q]
  };
  Recall recall;
  if (settings.update_steps_max == 0) {
    recall.steps = at::zeros({queries.size(0)}, queries.options().dtype(at::kLong));
    recall.converged = residual().le(eps);
  } else {
    auto ode = settings_.ode;
    if (settings.update_steps_max > 0) ode.steps_max(settings.update_steps_max);
    // |dv_i/dt| is the difference of v_i to R_i (W V + I)_i by tau_i R_i.
    const auto slowest = (network.time_constant * network.resistance).max().item<double>();
    const auto rest = core::integrate_to_rest(dynamics(network), potential, eps / slowest, ode);
    potential = rest.state;
    recall.steps = rest.steps_accepted;
    recall.converged = rest.converged;
  }
  recall.state = output_of(potential);
  recall.residual = residual();
  recall.period = recall.converged.to(at::kLong);
  return recall;
}

at::Tensor GradedNetwork::trajectory(const at::Tensor& queries, const std::vector<double>& times) const {
  const at::NoGradGuard no_grad;
  TORCH_CHECK(queries.defined(), prefix(), "expected queries [Q, d], got an undefined tensor");
  const auto starts = checked(queries.detach(), "queries");
  check_outputs(starts, "queries");
  const auto potentials =
      core::integrate_at(dynamics(circuit()), potential_of(starts), times, settings_.ode).trajectory;
  const auto outputs = output_of(potentials);  // [times, Q, d]
  return queries.dim() == 1 ? outputs.squeeze(1) : outputs;
}

void GradedNetwork::write(io::SafetensorsFile& file) const {
  file.metadata["gain"] = detail::text_of(settings_.gain);
  file.metadata["gain_function"] = kGainFunctions[static_cast<int>(settings_.gain_function)];
  file.metadata["margin"] = detail::text_of(settings_.margin);
  detail::write_ode(settings_.ode, file);
  file.tensors.insert("time_constant", per_neuron(settings_.time_constant));
  file.tensors.insert("resistance", per_neuron(settings_.resistance));
  file.tensors.insert("input", per_neuron(settings_.input));
  // The sum of the products may depend on the order in which patterns came and went, so it is kept with its bits.
  file.tensors.insert(settings_.weights.defined() ? "weights" : "products",
                      settings_.weights.defined() ? settings_.weights : products_);
}

std::unique_ptr<Memory> GradedNetwork::read(const detail::MemoryFile& file) {
  GradedOptions options;
  options.gain(file.number("gain")).margin(file.number("margin"));
  const auto& function = file.text("gain_function");
  TORCH_CHECK(function == kGainFunctions[0] || function == kGainFunctions[1],
              "hopfield::memory::load: expected the gain_function in ", file.path, " to be tanh or arctan, got '",
              function, "'");
  options.gain_function(function == kGainFunctions[0] ? GainFunction::tanh : GainFunction::arctan);
  options.time_constant(file.tensor("time_constant", 1));
  options.resistance(file.tensor("resistance", 1));
  options.input(file.tensor("input", 1));
  options.ode(file.ode());
  const auto is_given = file.content.tensors.contains("weights");
  if (is_given) options.weights(file.tensor("weights", 2));
  auto memory = std::make_unique<GradedNetwork>(options);
  memory->adopt(file.tensor("patterns", 2));
  if (!is_given) {
    const auto products = file.tensor("products", 2);
    TORCH_CHECK(products.sizes() == memory->products_.sizes() &&
                    products.scalar_type() == memory->products_.scalar_type() &&
                    at::isfinite(products).all().item<bool>(),
                "hopfield::memory::load: expected 'products' in ", file.path, " to be finite and ",
                memory->products_.sizes(), " of the type of the patterns, got others, or ", products.sizes());
    memory->products_ = products;
  }
  return memory;
}

}  // namespace hopfield::memory
