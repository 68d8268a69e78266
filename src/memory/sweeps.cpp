#include "memory/sweeps.h"

#include "kernels/philox.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace hopfield::memory::detail {
namespace {

/// What random words are drawn for: each purpose has words of its own.
enum class Purpose : uint32_t { order, noise };

std::array<uint32_t, 4> random_words(uint64_t seed, Purpose purpose, int64_t step, int64_t neuron) {
  return kernels::philox4x32_10({{static_cast<uint32_t>(neuron), static_cast<uint32_t>(step),
                                  static_cast<uint32_t>(step >> 32), static_cast<uint32_t>(purpose)},
                                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}});
}

std::vector<int64_t> draw_order(const RecallSettings& settings, int64_t neurons, int64_t step) {
  std::vector<int64_t> order(neurons);
  std::iota(order.begin(), order.end(), 0);
  if (settings.order == Order::fixed) return order;
  for (int64_t last = neurons - 1; last > 0; --last) {
    const auto word = random_words(settings.seed, Purpose::order, step, last)[0];
    std::swap(order[last], order[uint64_t{word} * static_cast<uint64_t>(last + 1) >> 32]);
  }
  return order;
}

/// h > T/2 log(u / (1 - u)) has the probability 1 / (1 + exp(-2 h / T)) for a uniform u.
double draw_threshold(const RecallSettings& settings, int64_t step, int64_t neuron) {
  const auto words = random_words(settings.seed, Purpose::noise, step, neuron);
  const auto bits = (uint64_t{words[0]} << 32 | words[1]) >> 12;              // 52 of them
  const double uniform = std::ldexp(static_cast<double>(2 * bits + 1), -53);  // in (0, 1)
  return 0.5 * settings.temperature * (std::log(uniform) - std::log1p(-uniform));
}

}  // namespace

Sweep draw_sweep(const RecallSettings& settings, int64_t neurons, int64_t step) {
  Sweep sweep{{}, std::vector<double>(neurons, 0.0)};
  if (settings.update == Update::asynchronous) sweep.order = draw_order(settings, neurons, step);
  if (settings.temperature > 0.0) {
    for (int64_t neuron = 0; neuron < neurons; ++neuron) {
      sweep.thresholds[neuron] = draw_threshold(settings, step, neuron);
    }
  }
  return sweep;
}

void check_sweeps(const RecallSettings& settings, const std::string& prefix) {
  TORCH_CHECK(settings.temperature >= 0.0 && std::isfinite(settings.temperature), prefix,
              "expected temperature to be finite and not negative, got ", settings.temperature);
  TORCH_CHECK(settings.temperature == 0.0 || settings.update_steps_max >= 0, prefix,
              "expected a number of sweeps for the temperature ", settings.temperature,
              ", at which a network never converges, got until converged; set update_steps_max");
  TORCH_CHECK(settings.update_steps_max >= 0 || settings.update_steps_cap > 0, prefix,
              "expected update_steps_cap to be positive, got ", settings.update_steps_cap);
}

Recall make_sweeps(const at::Tensor& states, const RecallSettings& settings, const MakeSweep& make_sweep) {
  const auto queries = states.size(0);
  const auto steps_max = settings.update_steps_max < 0 ? settings.update_steps_cap : settings.update_steps_max;
  const bool synchronous = settings.update == Update::synchronous;
  Recall recall;
  recall.state = states;
  recall.steps = at::zeros({queries}, states.options().dtype(at::kLong));
  recall.residual = at::full({queries}, std::numeric_limits<double>::quiet_NaN(), states.options());
  recall.period = at::zeros_like(recall.steps);
  auto active = at::arange(queries, recall.steps.options());  // [n]: queries that have not settled
  at::Tensor earlier;                                         // [n, d]: their states one update ago, if synchronous
  for (int64_t step = 0; step < steps_max && active.numel() > 0; ++step) {
    const auto before = synchronous ? states.index_select(0, active) : at::Tensor();
    const auto changed = make_sweep(draw_sweep(settings, states.size(1), step), active);
    recall.steps.index_add_(0, active, at::ones_like(active));
    recall.residual.index_copy_(0, active, changed.to(states.scalar_type()));
    if (settings.temperature > 0.0) continue;
    auto period = changed.eq(0).to(at::kLong);
    if (earlier.defined()) {
      const auto returned = states.index_select(0, active).eq(earlier).all(-1);
      period = at::where(returned.bitwise_and(period.eq(0)), 2, period);
    }
    recall.period.index_copy_(0, active, period);
    const auto unsettled = period.eq(0).nonzero().squeeze(-1);
    active = active.index_select(0, unsettled);
    if (synchronous) earlier = before.index_select(0, unsettled);
  }
  recall.converged = recall.period.eq(1);
  return recall;
}

}  // namespace hopfield::memory::detail
