#include "memory/best_rows.h"
#include "memory/per_neuron_checks.h"
#include <hopfield/memory/lagrangian.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::memory {
LagrangianMemory::LagrangianMemory(const LagrangianOptions& options) : settings_(options.settings()) {
  detail::check_per_neuron(settings_.feature_time_constant, "feature_time_constant", true, prefix());
  detail::check_per_neuron(settings_.hidden_time_constant, "hidden_time_constant", true, prefix());
  detail::check_per_neuron(settings_.input, "input", false, prefix());
}

LagrangianMemory::LagrangianMemory(const at::Tensor& patterns, const LagrangianOptions& options)
    : LagrangianMemory(options) {
  adopt(patterns);
}

LagrangianNetwork LagrangianMemory::network() const {
  const auto stored = patterns();
  const auto& given = settings_.weights;
  if (given.defined()) {
    TORCH_CHECK(given.dim() == 2 && given.size(1) == stored.size(1) && given.scalar_type() == stored.scalar_type() &&
                    given.device() == stored.device(),
                prefix(), "expected weights [N_h, ", stored.size(1), "] of type ", stored.scalar_type(), " on ",
                stored.device(), " like the patterns, got ", given.sizes(), " of type ", given.scalar_type(), " on ",
                given.device());
  }
  return LagrangianNetwork(given.defined() ? given.detach() : stored, LagrangianOptions(settings_));
}

void LagrangianMemory::learn(int64_t before) {
  if (before > 0) return;
  // Options with one number for each hidden neuron can fit only when all patterns are there: they are checked later.
  const bool grows = !settings_.weights.defined() &&
                     (settings_.hidden_time_constant.value().dim() == 1 || settings_.backward_weights.defined());
  if (grows) return;
  network();
}

at::Tensor LagrangianMemory::as_keys(const at::Tensor& rows) const {
  return settings_.feature.is_idempotent() ? settings_.feature.activation(rows) : rows;
}

at::Tensor LagrangianMemory::energy_of(const at::Tensor& states) const { return network().energy(states); }

BestMatches LagrangianMemory::best_matches_of(const at::Tensor& states, int64_t k) const {
  return detail::best_rows(as_keys(states), keys(), k);
}

double LagrangianMemory::update_steps_eps(const RecallSettings& settings, double otherwise) const {
  const auto eps = settings.update_steps_eps.value_or(otherwise);
  TORCH_CHECK(eps >= 0 && std::isfinite(eps), prefix(), "expected update_steps_eps to be finite and at least 0, got ",
              eps, "; leave it out to have it chosen");
  return eps;
}

double LagrangianMemory::largest_norm() const { return std::sqrt(squared_norms().max().item<double>()); }

/// The size that potentials have where the network sees its largest pattern, and at least 1.
double LagrangianMemory::largest_potential(const LagrangianNetwork& two_layers) const {
  const auto pattern = keys().narrow(0, squared_norms().argmax().item<int64_t>(), 1);
  const auto of_hidden = two_layers.hidden_at_rest(pattern).abs().max().item<double>();
  const auto of_feature = two_layers.update(pattern).abs().max().item<double>();
  return std::max({1.0, pattern.abs().max().item<double>(), of_hidden, of_feature});
}

Recall LagrangianMemory::recall(const at::Tensor& queries, const RecallSettings& settings) const {
  return settings_.dynamics == Dynamics::discrete ? recall_by_updates(queries, settings)
                                                  : recall_in_time(queries, settings);
}

Recall LagrangianMemory::recall_by_updates(const at::Tensor& queries, const RecallSettings& settings) const {
  const auto two_layers = network();
  const auto steps_max = settings.update_steps_max < 0 ? settings.update_steps_cap : settings.update_steps_max;
  const auto relative = queries.scalar_type() == at::kDouble ? 1e-12 : 1e-6;
  const auto eps = update_steps_eps(settings, relative * largest_norm());
  Recall recall;
  recall.state = queries.clone();
  recall.steps = at::zeros({queries.size(0)}, queries.options().dtype(at::kLong));
  recall.residual = at::full({queries.size(0)}, std::numeric_limits<double>::quiet_NaN(), queries.options());
  recall.converged = at::zeros({queries.size(0)}, queries.options().dtype(at::kBool));
  auto active = at::arange(queries.size(0), recall.steps.options());  // [Q']: rows that are still updated
  for (int64_t step = 0; step < steps_max && active.numel() > 0; ++step) {
    const auto before = recall.state.index_select(0, active);
    const auto next = as_keys(two_layers.update(before));
    TORCH_CHECK(at::isfinite(next).all().item<bool>(), prefix(),
                "expected finite states, got some that are infinite or "
                "not a number after update ",
                step + 1, "; an activation grows too fast for the sizes of weights and states");
    const auto residual = at::linalg_vector_norm(next - before, 2, {-1});
    // States may be much larger than patterns, and their rounding with them.
    const auto threshold = settings.update_steps_eps
                               ? at::full_like(residual, eps)
                               : at::linalg_vector_norm(next, 2, {-1}).mul(relative).clamp_min(eps);
    const auto is_at_rest = residual <= threshold;
    recall.state.index_copy_(0, active, next);
    recall.residual.index_copy_(0, active, residual);
    recall.steps.index_add_(0, active, at::ones_like(active));
    recall.converged.index_copy_(0, active, is_at_rest);
    active = active.index({is_at_rest.logical_not()});
  }
  recall.period = recall.converged.to(at::kLong);
  return recall;
}

Recall LagrangianMemory::recall_in_time(const at::Tensor& queries, const RecallSettings& settings) const {
  const auto two_layers = network();
  const auto is_double = queries.scalar_type() == at::kDouble;
  const auto eps = update_steps_eps(settings, (is_double ? 1e-8 : 1e-4) * largest_potential(two_layers));
  TORCH_CHECK(eps > 0, prefix(), "expected update_steps_eps to be positive in continuous time, got 0");
  const auto width = queries.size(1);
  const auto hidden = two_layers.hidden_at_rest(queries);
  const auto function = two_layers.right_hand_side();
  auto state = at::cat({queries, hidden}, 1);  // [Q, d + N_h]
  const auto time_constants = at::cat({settings_.feature_time_constant.value().to(state).expand({width}),
                                       settings_.hidden_time_constant.value().to(state).expand({hidden.size(1)})});
  const auto residual = [&] {
    const auto time = at::zeros({state.size(0), 1}, state.options());
    return (function(time, state) * time_constants).abs().amax(-1);  // [Q]
  };
  Recall recall;
  if (settings.update_steps_max == 0) {
    recall.steps = at::zeros({queries.size(0)}, queries.options().dtype(at::kLong));
    recall.converged = residual().le(eps);
  } else {
    auto ode = settings_.ode;
    if (settings.update_steps_max > 0) ode.steps_max(settings.update_steps_max);
    const auto rest = core::integrate_to_rest(function, state, eps / time_constants.max().item<double>(), ode);
    state = rest.state;
    recall.steps = rest.steps_accepted;
    recall.converged = rest.converged;
  }
  recall.residual = residual();
  recall.state = as_keys(state.narrow(1, 0, width)).contiguous();
  recall.period = recall.converged.to(at::kLong);
  return recall;
}

}  // namespace hopfield::memory
