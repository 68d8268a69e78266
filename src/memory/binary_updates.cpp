#include "memory/binary_updates.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

namespace hopfield::memory::detail {
namespace {

// The least work of a thread, in updated fields.
constexpr int64_t kWorkOfThread = int64_t{1} << 15;

/// Updates the neurons of one query in order. Returns how many have changed.
template <typename T>
int64_t update_query(T* state, T* fields, const T* couplings, int64_t neurons, const std::vector<int64_t>& order,
                     const double* thresholds) {
  int64_t changed = 0;
  for (const auto neuron : order) {
    const double excess = static_cast<double>(fields[neuron]) - thresholds[neuron];
    if (excess == 0.0 || (excess > 0.0) == (state[neuron] > 0)) continue;
    state[neuron] = -state[neuron];
    const auto change = 2 * state[neuron];
    const auto* row = couplings + neuron * neurons;  // the column too: the couplings are symmetric
    for (int64_t other = 0; other < neurons; ++other) fields[other] += change * row[other];
    ++changed;
  }
  return changed;
}

/// The thresholds of a sweep in the unit of the weights.
std::vector<double> thresholds_of(const BinaryWeights& weights, const Sweep& sweep) {
  auto thresholds = sweep.thresholds;
  for (auto& threshold : thresholds) threshold /= weights.unit;
  return thresholds;
}

}  // namespace

BinaryWeights exact_weights(const at::Tensor& couplings, const at::Tensor& thresholds, double unit) {
  const auto neurons = static_cast<double>(couplings.size(0));
  const auto target = thresholds / unit;
  const auto largest = (couplings.abs().sum(-1, /*keepdim=*/false, at::kDouble) + target.abs()).max().item<double>();
  if (largest == 0.0) return {couplings, target, unit};
  const bool is_double = couplings.scalar_type() == at::kDouble;
  // Sums stay below 2^exponent with what rounding adds, and the type represents all multiples of the step up to there.
  // Twice a coupling, by which a field changes, is as exact as the coupling. Energies in float64 sum d fields, from
  // which thresholds have been taken twice.
  int exponent = 0;
  std::frexp(largest * (1.0 + std::ldexp(neurons, -23)) * (is_double ? 4.0 * neurons : 1.0), &exponent);
  const auto step = std::ldexp(1.0, exponent - (is_double ? 53 : 24));
  const auto rounded = [&](const at::Tensor& values) { return values.div(step).round_().mul_(step); };
  const auto exact = rounded(couplings);
  return {exact.equal(couplings) ? couplings : exact, rounded(target), unit};
}

at::Tensor fields_of(const BinaryWeights& weights, const at::Tensor& states) {
  return states.mm(weights.couplings).sub_(weights.thresholds);
}

at::Tensor energies_of(const BinaryWeights& weights, const at::Tensor& states, const at::Tensor& fields) {
  // s.W s is s.(h + b), where h are the fields.
  const auto twice = (weights.thresholds.to(at::kDouble) - fields).mul_(states).sum(-1);
  return twice.mul_(0.5 * weights.unit).to(states.scalar_type());
}

at::Tensor update_in_order(const BinaryWeights& weights, const at::Tensor& states, const at::Tensor& fields,
                           const at::Tensor& active, const Sweep& sweep) {
  if (!states.is_cpu()) return update_in_order_composite(weights, states, fields, active, sweep);
  TORCH_INTERNAL_ASSERT(states.is_contiguous() && fields.is_contiguous());
  const auto neurons = states.size(1);
  const auto thresholds = thresholds_of(weights, sweep);
  const auto couplings = weights.couplings.contiguous();
  auto changed = at::empty_like(active);
  AT_DISPATCH_FLOATING_TYPES(states.scalar_type(), "update_in_order", [&] {
    const auto* const queries = active.const_data_ptr<int64_t>();
    const auto* const rows = couplings.const_data_ptr<scalar_t>();
    auto* const all_states = states.mutable_data_ptr<scalar_t>();
    auto* const all_fields = fields.mutable_data_ptr<scalar_t>();
    auto* const counts = changed.mutable_data_ptr<int64_t>();
    at::parallel_for(0, active.numel(), std::max<int64_t>(1, kWorkOfThread / neurons), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto first = queries[i] * neurons;
        counts[i] = update_query(all_states + first, all_fields + first, rows, neurons, sweep.order, thresholds.data());
      }
    });
  });
  return changed;
}

at::Tensor update_in_order_composite(const BinaryWeights& weights, const at::Tensor& states, const at::Tensor& fields,
                                     const at::Tensor& active, const Sweep& sweep) {
  const auto thresholds = thresholds_of(weights, sweep);
  auto some_states = states.index_select(0, active), some_fields = fields.index_select(0, active);
  auto changed = at::zeros_like(active);
  for (const auto neuron : sweep.order) {
    auto state = some_states.select(1, neuron);
    const auto target = at::sign(some_fields.select(1, neuron).to(at::kDouble) - thresholds[neuron]);
    const auto flips = (target * state).lt(0).to(state.scalar_type());
    changed += flips.to(at::kLong);
    state.mul_(1 - 2 * flips);
    some_fields.addr_(2 * flips * state, weights.couplings[neuron]);
  }
  states.index_copy_(0, active, some_states);
  fields.index_copy_(0, active, some_fields);
  return changed;
}

at::Tensor update_at_once(const BinaryWeights& weights, const at::Tensor& states, const at::Tensor& active,
                          const Sweep& sweep) {
  const auto before = states.index_select(0, active);
  const auto thresholds = at::tensor(thresholds_of(weights, sweep), before.options().dtype(at::kDouble));
  const auto excess = fields_of(weights, before).to(at::kDouble) - thresholds;
  const auto after = at::where(excess.eq(0), before, excess.sign().to(before.scalar_type()));
  states.index_copy_(0, active, after);
  return after.ne(before).sum(-1);
}

}  // namespace hopfield::memory::detail
