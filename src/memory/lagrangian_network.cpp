#include "memory/lagrangian_watch.h"
#include "memory/per_neuron_checks.h"
#include <hopfield/memory/lagrangian_network.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

namespace hopfield::memory {
namespace {

const std::string kPrefix = "hopfield::memory::LagrangianNetwork: ";

at::Tensor row_dot(const at::Tensor& a, const at::Tensor& b) { return (a * b).sum(-1); }

void check_weights(const at::Tensor& weights) {
  TORCH_CHECK(weights.defined() && weights.dim() == 2 && weights.numel() > 0, kPrefix,
              "expected weights [N_h, d] with at least one neuron in each layer, got ",
              weights.defined() ? c10::str(weights.sizes()) : "an undefined tensor");
  TORCH_CHECK(weights.scalar_type() == at::kFloat || weights.scalar_type() == at::kDouble, kPrefix,
              "expected weights of type Float or Double, got ", weights.scalar_type());
  TORCH_CHECK(at::isfinite(weights).all().item<bool>(), kPrefix,
              "expected finite weights, got some that are infinite or not a number");
}

void check_backward_weights(const at::Tensor& weights, const at::Tensor& backward) {
  TORCH_CHECK(backward.dim() == 2 && backward.sizes() == weights.t().sizes() &&
                  backward.scalar_type() == weights.scalar_type() && backward.device() == weights.device(),
              kPrefix, "expected backward_weights [", weights.size(1), ", ", weights.size(0), "] of type ",
              weights.scalar_type(), " on ", weights.device(), " like the weights transposed, got ", backward.sizes(),
              " of type ", backward.scalar_type(), " on ", backward.device());
  TORCH_CHECK(backward.equal(weights.t()), kPrefix,
              "expected symmetric weights, those backward equal to those forward transposed, without which there is no "
              "energy, got others; leave backward_weights out");
}

}  // namespace

LagrangianOptions LagrangianOptions::model_a(const Lagrangian& hidden) {
  return LagrangianOptions().feature(Lagrangian::absolute_value()).hidden(hidden);
}

LagrangianOptions LagrangianOptions::model_b(double beta) {
  return LagrangianOptions().feature(Lagrangian::quadratic()).hidden(Lagrangian::log_sum_exp(beta));
}

LagrangianOptions LagrangianOptions::model_c(const Lagrangian& hidden) {
  return LagrangianOptions().feature(Lagrangian::spherical_norm()).hidden(hidden);
}

LagrangianNetwork::LagrangianNetwork(at::Tensor weights, const LagrangianOptions& options)
    : settings_(options.settings()), weights_(std::move(weights)) {
  check_weights(weights_);
  if (settings_.backward_weights.defined()) check_backward_weights(weights_, settings_.backward_weights);
  const auto taken = [&](const PerNeuron& option, const char* name, bool is_positive, int64_t dimension) {
    detail::check_per_neuron(option, name, is_positive, kPrefix);
    detail::check_width(option, name, weights_.size(dimension), kPrefix);
    return option.value().to(weights_.device(), weights_.scalar_type());
  };
  input_ = taken(settings_.input, "input", false, 1);
  feature_time_constant_ = taken(settings_.feature_time_constant, "feature_time_constant", true, 1);
  hidden_time_constant_ = taken(settings_.hidden_time_constant, "hidden_time_constant", true, 0);
}

void LagrangianNetwork::check_v(const at::Tensor& v) const {
  TORCH_CHECK(v.defined() && v.dim() == 2 && v.size(1) == weights_.size(1), kPrefix, "expected v [Q, ",
              weights_.size(1), "], as wide as the weights, got ",
              v.defined() ? c10::str(v.sizes()) : "an undefined tensor");
  TORCH_CHECK(v.scalar_type() == weights_.scalar_type() && v.device() == weights_.device(), kPrefix,
              "expected v to be ", weights_.scalar_type(), " on ", weights_.device(), " like the weights, got ",
              v.scalar_type(), " on ", v.device());
  TORCH_CHECK(at::isfinite(v).all().item<bool>(), kPrefix,
              "expected finite v, got some that are infinite or not a number");
}

void LagrangianNetwork::check_h(const at::Tensor& v, const at::Tensor& h) const {
  TORCH_CHECK(h.defined() && h.dim() == 2 && h.size(0) == v.size(0) && h.size(1) == weights_.size(0), kPrefix,
              "expected h [", v.size(0), ", ", weights_.size(0), "], a row for each of v, got ",
              h.defined() ? c10::str(h.sizes()) : "an undefined tensor");
  TORCH_CHECK(h.scalar_type() == weights_.scalar_type() && h.device() == weights_.device(), kPrefix,
              "expected h to be ", weights_.scalar_type(), " on ", weights_.device(), " like the weights, got ",
              h.scalar_type(), " on ", h.device());
  TORCH_CHECK(at::isfinite(h).all().item<bool>(), kPrefix,
              "expected finite h, got some that are infinite or not a number");
}

at::Tensor LagrangianNetwork::joined(const at::Tensor& v, const at::Tensor& h) const {
  check_v(v);
  check_h(v, h);
  return at::cat({v, h}, 1);
}

at::Tensor LagrangianNetwork::feature_part(const at::Tensor& state) const {
  return state.narrow(-1, 0, weights_.size(1));
}

at::Tensor LagrangianNetwork::hidden_part(const at::Tensor& state) const {
  return state.narrow(-1, weights_.size(1), weights_.size(0));
}

at::Tensor LagrangianNetwork::hidden_at_rest(const at::Tensor& v) const {
  check_v(v);
  return settings_.feature.activation(v).matmul(weights_.t());
}

/// One update of states that have been checked, or follow from such states.
at::Tensor LagrangianNetwork::updated(const at::Tensor& v) const {
  const auto h = settings_.feature.activation(v).matmul(weights_.t());  // [Q, N_h]
  return settings_.hidden.activation(h).matmul(weights_) + input_;
}

at::Tensor LagrangianNetwork::update(const at::Tensor& v) const {
  check_v(v);
  return updated(v);
}

at::Tensor LagrangianNetwork::updates(const at::Tensor& v, int64_t count) const {
  check_v(v);
  TORCH_CHECK(count >= 0, kPrefix, "expected a number of updates that is at least 0, got ", count);
  auto state = v;
  for (int64_t i = 0; i < count; ++i) state = updated(state);
  return state;
}

at::Tensor LagrangianNetwork::energy_at(const at::Tensor& v, const at::Tensor& h) const {
  const auto g = settings_.feature.activation(v), f = settings_.hidden.activation(h);
  return row_dot(v - input_, g) - settings_.feature.value(v) + row_dot(h - g.matmul(weights_.t()), f) -
         settings_.hidden.value(h);
}

/// The same at h = xi g(v), where the products with f cancel.
at::Tensor LagrangianNetwork::effective_energy_at(const at::Tensor& v) const {
  const auto g = settings_.feature.activation(v);
  return row_dot(v - input_, g) - settings_.feature.value(v) - settings_.hidden.value(g.matmul(weights_.t()));
}

at::Tensor LagrangianNetwork::energy(const at::Tensor& v, const at::Tensor& h) const {
  check_v(v);
  check_h(v, h);
  return energy_at(v, h);
}

at::Tensor LagrangianNetwork::energy(const at::Tensor& v) const {
  check_v(v);
  return effective_energy_at(v);
}

core::OdeFunction LagrangianNetwork::right_hand_side() const {
  return [network = *this](const at::Tensor&, const at::Tensor& state) {
    const auto v = network.feature_part(state), h = network.hidden_part(state);
    const auto g = network.settings_.feature.activation(v), f = network.settings_.hidden.activation(h);
    return at::cat({(f.matmul(network.weights_) - v + network.input_) / network.feature_time_constant_,
                    (g.matmul(network.weights_.t()) - h) / network.hidden_time_constant_},
                   1);
  };
}

LagrangianState LagrangianNetwork::integrate(const at::Tensor& v, double time) const {
  return integrate(v, hidden_at_rest(v), time);
}

LagrangianState LagrangianNetwork::integrate(const at::Tensor& v, const at::Tensor& h, double time) const {
  const auto start = joined(v, h);
  TORCH_CHECK(time >= 0 && std::isfinite(time), kPrefix, "expected a finite time that is at least 0, got ", time);
  const auto result = core::integrate(right_hand_side(), start, 0.0, time, settings_.ode);
  return {feature_part(result.state), hidden_part(result.state), result.time, detail::failure_of(result, time)};
}

LagrangianTrajectory LagrangianNetwork::trajectory(const at::Tensor& v, const std::vector<double>& times) const {
  const at::NoGradGuard no_grad;
  return trajectory(v, hidden_at_rest(v), times);
}

LagrangianTrajectory LagrangianNetwork::trajectory(const at::Tensor& v, const at::Tensor& h,
                                                   const std::vector<double>& times) const {
  const at::NoGradGuard no_grad;
  const auto start = joined(v.detach(), h.detach());
  const auto rows = v.size(0);
  detail::HessianWatch feature(settings_.feature, feature_time_constant_, v);
  detail::HessianWatch hidden(settings_.hidden, hidden_time_constant_, v);
  // Rows that have ended leave the batch, so each one carries its number as a further column.
  const auto numbers = at::arange(rows, v.options().requires_grad(false)).unsqueeze(1);
  const auto watched = [&, function = right_hand_side()](const at::Tensor& time, const at::Tensor& state) {
    const auto motion = function(time, state);
    const auto which = state.select(1, state.size(1) - 1).to(at::kLong);
    const auto moment = time.squeeze(1).to(at::kDouble);
    feature.see(which, moment, feature_part(state), feature_part(motion));
    hidden.see(which, moment, hidden_part(state), hidden_part(motion));
    return at::cat({motion, at::zeros({state.size(0), 1}, motion.options())}, 1);
  };
  const auto path = core::integrate_at(watched, at::cat({start, numbers}, 1), times, settings_.ode);
  LagrangianTrajectory result;
  result.times = at::tensor(times, v.options().dtype(at::kDouble).requires_grad(false));
  result.v = feature_part(path.trajectory).contiguous();
  result.h = hidden_part(path.trajectory).contiguous();
  const auto count = static_cast<int64_t>(times.size());
  result.energy = energy_at(result.v.flatten(0, 1), result.h.flatten(0, 1)).view({count, rows});
  result.last = {feature_part(path.state).contiguous(), hidden_part(path.state).contiguous(), path.time,
                 detail::failure_of(path, times.back())};
  result.hessian_is_positive = feature.is_positive().logical_and(hidden.is_positive());
  result.promise = detail::promise_of(feature, hidden);
  return result;
}

LagrangianTrajectory LagrangianNetwork::update_trajectory(const at::Tensor& v, int64_t count) const {
  const at::NoGradGuard no_grad;
  check_v(v);
  TORCH_CHECK(count >= 0, kPrefix, "expected a number of updates that is at least 0, got ", count);
  detail::HessianWatch feature(settings_.feature, {}, v), hidden(settings_.hidden, {}, v);
  const auto which = at::arange(v.size(0), v.options().dtype(at::kLong).requires_grad(false));
  std::vector<at::Tensor> states{v.detach()}, hiddens{hidden_at_rest(v.detach())}, energies{energy(v.detach())};
  for (int64_t update = 1; update <= count; ++update) {
    const auto before = states.back(), hidden_before = hiddens.back();
    states.push_back(updated(before));
    hiddens.push_back(settings_.feature.activation(states.back()).matmul(weights_.t()));
    energies.push_back(effective_energy_at(states.back()));
    const auto moment = at::full({v.size(0)}, static_cast<double>(update), which.options().dtype(at::kDouble));
    for (const auto& x : {before, states.back()}) feature.see(which, moment, x, states.back() - before);
    for (const auto& x : {hidden_before, hiddens.back()}) hidden.see(which, moment, x, hiddens.back() - hidden_before);
  }
  LagrangianTrajectory result;
  result.times = at::arange(count + 1, which.options().dtype(at::kDouble));
  result.v = at::stack(states);
  result.h = at::stack(hiddens);
  result.energy = at::stack(energies);
  result.last = {states.back().clone(), hiddens.back().clone(), result.times[count].expand({v.size(0)}).clone(),
                 detail::overflow_of(result.v)};
  result.hessian_is_positive = feature.is_positive().logical_and(hidden.is_positive());
  result.promise = detail::promise_of(feature, hidden);
  return result;
}

}  // namespace hopfield::memory
