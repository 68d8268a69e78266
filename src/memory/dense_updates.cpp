#include "memory/dense_updates.h"

#include "memory/dense_patterns.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

namespace hopfield::memory::detail {
namespace {

// The least work of a thread, in terms of sums over patterns.
constexpr int64_t kWorkOfThread = int64_t{1} << 15;
// So many patterns at a time are converted to float64.
constexpr int64_t kConvertedPatterns = 4096;

/// Runs a function for queries 0 to count - 1 in parallel, each of which costs `work` terms of sums over patterns.
template <typename Function>
void for_each_query(int64_t count, int64_t work, const Function& function) {
  at::parallel_for(0, count, std::max<int64_t>(1, kWorkOfThread / work), [&](int64_t begin, int64_t end) {
    for (int64_t query = begin; query < end; ++query) function(query);
  });
}

/// What a neuron decides by, for one neuron and query or for tensors of them: what its sum of differences exceeds the
/// threshold by. `signed_sum` is sum_i x_ij e_i, `constant` is sum_i c_i.
template <typename Number, typename Threshold>
Number excess_of(const Interaction& interaction, const Number& signed_sum, const Number& constant, const Number& state,
                 const Threshold& threshold_constant, const Threshold& threshold_factor) {
  const Number difference = signed_sum + state * constant;
  if (!interaction.follows_largest) return difference - threshold_constant;
  // Exponentials: c_i is -tanh(1) e_i, and the sum of the differences is sum_i e_i + s_j sum_i x_ij c_i.
  const double tanh_1 = std::tanh(1.0);
  const Number total = constant * (-1.0 / tanh_1) - state * signed_sum * tanh_1;
  return difference - threshold_factor * total;
}

bool is_noisy(const Sweep& sweep) {
  return std::any_of(sweep.thresholds.begin(), sweep.thresholds.end(), [](double value) { return value != 0.0; });
}

/// Updates the neurons of one query in order. Returns how many have changed.
template <typename T>
int64_t update_query(const DenseTile& tile, const Sweep& sweep, const Interaction::Threshold* thresholds, T* state,
                     int32_t* overlaps) {
  const auto patterns = tile.patterns.size(0), neurons = tile.patterns.size(1);
  const auto rounding = is_noisy(sweep) ? 0.0 : rounding_of_sums(patterns);
  std::vector<double> half_sums(patterns);
  auto sums = sum_state(tile.interaction, overlaps, patterns, half_sums.data());
  int64_t changed = 0;
  for (const auto neuron : sweep.order) {
    const auto* const column = tile.columns.const_data_ptr<int8_t>() + neuron * patterns;
    const auto now = static_cast<int32_t>(state[neuron]);
    auto excess = excess_of<double>(tile.interaction, sum_signed(column, half_sums.data(), patterns), sums.constant,
                                    now, thresholds[neuron].constant, thresholds[neuron].factor);
    if (std::abs(excess) <= rounding * sums.magnitude) {
      excess = exact_sign(tile.interaction, column, overlaps, patterns, neurons, now);
    }
    if (now > 0 ? excess >= 0.0 : excess <= 0.0) continue;
    state[neuron] = -state[neuron];
    for (int64_t i = 0; i < patterns; ++i) overlaps[i] -= 2 * now * column[i];
    sums = sum_state(tile.interaction, overlaps, patterns, half_sums.data());
    ++changed;
  }
  return changed;
}

/// The sums of StateSums and the half sums for some queries, on any device.
struct TileSums {
  at::Tensor half_sums;  // [n, N] float64
  at::Tensor constant;   // [n, 1]
  at::Tensor magnitude;  // [n, 1]
};

TileSums sum_states(const Interaction& interaction, const at::Tensor& overlaps) {
  const auto queries = overlaps.size(0), patterns = overlaps.size(1);
  const auto options = overlaps.options().dtype(at::kDouble);
  TileSums result{at::empty({queries, patterns}, options), at::empty({queries, 1}, options),
                  at::empty({queries, 1}, options)};
  auto* const half_sums = result.half_sums.mutable_data_ptr<double>();
  auto* const constants = result.constant.mutable_data_ptr<double>();
  auto* const magnitudes = result.magnitude.mutable_data_ptr<double>();
  const auto* const rows = overlaps.const_data_ptr<int32_t>();
  for_each_query(queries, patterns, [&](int64_t query) {
    const auto sums = sum_state(interaction, rows + query * patterns, patterns, half_sums + query * patterns);
    constants[query] = sums.constant;
    magnitudes[query] = sums.magnitude;
  });
  return result;
}

/// The entries of a table for overlaps [n, N].
at::Tensor looked_up(const Interaction& interaction, const at::Tensor& table, const at::Tensor& overlaps) {
  const auto entries = overlaps + interaction.zero_of(overlaps.amax(-1, /*keepdim=*/true));
  return table.to(overlaps.device()).take(entries.to(at::kLong));
}

TileSums sum_states_composite(const Interaction& interaction, const at::Tensor& overlaps) {
  const auto half_sums = looked_up(interaction, interaction.half_sums, overlaps);
  const auto half_differences = looked_up(interaction, interaction.half_differences, overlaps);
  return {half_sums, half_differences.sum(-1, true), (half_sums.abs() + half_differences.abs()).sum(-1, true)};
}

/// Puts the exact signs where rounding might have decided: for the entries of `excess` [n, m] that do not exceed the
/// rounding of the sums. Row i is the query with the overlaps [n, N] and states [n, m], column j the neuron `first` +
/// j.
void correct_rounding(const DenseTile& tile, const TileSums& sums, const at::Tensor& overlaps, const at::Tensor& states,
                      int64_t first, at::Tensor& excess) {
  const auto count = tile.patterns.size(0), neurons = tile.patterns.size(1);
  const auto uncertain = (excess.abs() <= rounding_of_sums(count) * sums.magnitude).nonzero();  // [u, 2]
  if (uncertain.size(0) == 0) return;
  const auto places = uncertain.cpu(), rows = overlaps.cpu(), values = states.cpu();
  const auto place = places.accessor<int64_t, 2>();
  const auto value = values.accessor<double, 2>();
  auto signs = at::empty({places.size(0)}, at::kDouble);
  auto* const results = signs.mutable_data_ptr<double>();
  for_each_query(places.size(0), count, [&](int64_t i) {
    const auto query = place[i][0], neuron = place[i][1];
    results[i] = exact_sign(tile.interaction, tile.columns.const_data_ptr<int8_t>() + (first + neuron) * count,
                            rows.const_data_ptr<int32_t>() + query * count, count, neurons,
                            static_cast<int32_t>(value[query][neuron]));
  });
  excess.index_put_({uncertain.select(1, 0), uncertain.select(1, 1)}, signs.to(excess.device()));
}

/// New states [n, m] float64 of the neurons that decide by `excess` [n, m].
at::Tensor decided(const at::Tensor& states, const at::Tensor& excess) {
  return at::where(excess.eq(0), states, excess.sign());
}

/// The thresholds of a sweep [2, d] float64: constants and factors.
at::Tensor thresholds_of(const DenseTile& tile, const Sweep& sweep) {
  auto result = at::empty({2, tile.patterns.size(1)}, at::kDouble);
  auto values = result.accessor<double, 2>();
  int64_t neuron = 0;
  for (const auto& threshold : tile.interaction.thresholds_of(sweep.thresholds)) {
    values[0][neuron] = threshold.constant;
    values[1][neuron++] = threshold.factor;
  }
  return result.to(tile.patterns.device());
}

}  // namespace

// Overlaps are integers below 2^24, which products in float32 leave exact.
at::Tensor overlaps_of(const at::Tensor& states, const at::Tensor& patterns) {
  return states.mm(patterns.t()).to(at::kInt);
}

at::Tensor update_in_order(DenseTile& tile, const Sweep& sweep, const at::Tensor& active) {
  if (!tile.states.is_cpu()) return update_in_order_composite(tile, sweep, active);
  const auto patterns = tile.patterns.size(0), neurons = tile.patterns.size(1);
  const auto thresholds = tile.interaction.thresholds_of(sweep.thresholds);
  auto changed = at::empty_like(active);
  auto* const counts = changed.mutable_data_ptr<int64_t>();
  auto* const overlaps = tile.overlaps.mutable_data_ptr<int32_t>();
  const auto* const queries = active.const_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES(tile.states.scalar_type(), "update_in_order", [&] {
    auto* const states = tile.states.mutable_data_ptr<scalar_t>();
    for_each_query(active.numel(), neurons * patterns, [&](int64_t i) {
      counts[i] =
          update_query(tile, sweep, thresholds.data(), states + queries[i] * neurons, overlaps + queries[i] * patterns);
    });
  });
  return changed;
}

at::Tensor update_in_order_composite(DenseTile& tile, const Sweep& sweep, const at::Tensor& active) {
  const auto thresholds = thresholds_of(tile, sweep);
  const bool is_exact = !is_noisy(sweep);
  auto states = tile.states.index_select(0, active).to(at::kDouble);  // [n, d]
  auto overlaps = tile.overlaps.index_select(0, active);              // [n, N]
  const auto before = states.clone();
  for (const auto neuron : sweep.order) {
    const auto column = tile.patterns.narrow(1, neuron, 1);  // [N, 1]
    auto state = states.narrow(1, neuron, 1);                // [n, 1]
    const auto sums = sum_states_composite(tile.interaction, overlaps);
    auto excess = excess_of<at::Tensor>(tile.interaction, sums.half_sums.mm(column.to(at::kDouble)), sums.constant,
                                        state, thresholds[0][neuron], thresholds[1][neuron]);
    if (is_exact) correct_rounding(tile, sums, overlaps, state, neuron, excess);
    const auto after = decided(state, excess);
    overlaps += (after - state).to(at::kInt) * column.t().to(at::kInt);
    state.copy_(after);
  }
  tile.states.index_copy_(0, active, states.to(tile.states.scalar_type()));
  tile.overlaps.index_copy_(0, active, overlaps);
  return states.ne(before).sum(-1);
}

at::Tensor update_at_once(DenseTile& tile, const Sweep& sweep, const at::Tensor& active) {
  const auto thresholds = thresholds_of(tile, sweep);
  const auto states = tile.states.index_select(0, active).to(at::kDouble);  // [n, d]
  const auto overlaps = tile.overlaps.index_select(0, active);              // [n, N]
  const auto sums =
      overlaps.is_cpu() ? sum_states(tile.interaction, overlaps) : sum_states_composite(tile.interaction, overlaps);
  auto signed_sums = at::zeros_like(states);
  for (int64_t first = 0; first < tile.patterns.size(0); first += kConvertedPatterns) {
    const auto count = std::min(kConvertedPatterns, tile.patterns.size(0) - first);
    signed_sums.addmm_(sums.half_sums.narrow(1, first, count), tile.patterns.narrow(0, first, count).to(at::kDouble));
  }
  auto excess =
      excess_of<at::Tensor>(tile.interaction, signed_sums, sums.constant, states, thresholds[0], thresholds[1]);
  if (!is_noisy(sweep)) correct_rounding(tile, sums, overlaps, states, 0, excess);
  const auto after = decided(states, excess);
  const auto changed = after.ne(states).sum(-1);
  const auto moved = changed.nonzero().squeeze(-1);
  const auto moved_states = after.index_select(0, moved).to(tile.states.scalar_type());
  tile.states.index_copy_(0, active.index_select(0, moved), moved_states);
  tile.overlaps.index_copy_(0, active.index_select(0, moved), overlaps_of(moved_states, tile.patterns));
  return changed;
}

at::Tensor energies_of(const Interaction& interaction, const at::Tensor& overlaps) {
  if (!overlaps.is_cpu()) return energies_composite(interaction, overlaps);
  const auto patterns = overlaps.size(1);
  auto energies = at::empty({overlaps.size(0)}, at::kDouble);
  auto* const results = energies.mutable_data_ptr<double>();
  for_each_query(overlaps.size(0), patterns, [&](int64_t query) {
    const auto* const row = overlaps.const_data_ptr<int32_t>() + query * patterns;
    const auto largest = int64_t{*std::max_element(row, row + patterns)};
    const auto* const values = interaction.values.const_data_ptr<double>() + interaction.zero_of(largest);
    Sum sum;
    for (int64_t i = 0; i < patterns; ++i) sum.add(i, values[row[i]]);
    results[query] = interaction.energy_of(sum.value(), static_cast<double>(largest));
  });
  return energies;
}

at::Tensor energies_composite(const Interaction& interaction, const at::Tensor& overlaps) {
  return interaction.energy_of(looked_up(interaction, interaction.values, overlaps).sum(-1), overlaps.amax(-1));
}

}  // namespace hopfield::memory::detail
