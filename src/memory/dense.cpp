#include "memory/dense.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>

namespace hopfield::memory::detail {
namespace {

// Bytes of a tile of overlaps, with what is needed beside them.
constexpr int64_t kTileBytes = int64_t{1} << 26;
constexpr int64_t kBytesOfOverlap = 16;
// The least work of a thread, in terms of sums over patterns.
constexpr int64_t kWorkOfThread = int64_t{1} << 15;

/// What the updates of a query need of the memory, on the CPU.
struct Network {
  const Interaction& interaction;
  at::Tensor columns;  // [d, N] int8: the patterns

  int64_t neurons() const { return columns.size(0); }
  int64_t patterns() const { return columns.size(1); }
  const int8_t* column(int64_t neuron) const { return columns.const_data_ptr<int8_t>() + neuron * patterns(); }
};

/// Sums over patterns. Each has four parts, so that an addition need not wait for the one before it. Which part a
/// pattern belongs to is a function of its index alone: the result of a query is the same in every batch.
struct Sums {
  double difference[4] = {}, total[4] = {};

  void add(int64_t i, double sign, double value) {
    difference[i % 4] += sign * value;
    total[i % 4] += value;
  }
  static double sum(const double (&parts)[4]) { return (parts[0] + parts[1]) + (parts[2] + parts[3]); }
};

/// sum_i x_ij D_i and sum_i D_i, where D_i is the entry of `differences` for the overlap of the neurons other than j.
Sums sum_differences(const int8_t* column, const int32_t* overlaps, int64_t count, int32_t state,
                     const double* differences) {
  Sums sums;
  const auto add = [&](int64_t i) { sums.add(i, column[i], differences[overlaps[i] - column[i] * state]); };
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) add(i), add(i + 1), add(i + 2), add(i + 3);
  for (; i < count; ++i) add(i);
  return sums;
}

int32_t largest_of(const int32_t* overlaps, int64_t count) { return *std::max_element(overlaps, overlaps + count); }

/// Brings the overlaps of a state up to date after a neuron has changed by `change`. Returns the largest of them.
int32_t change_overlaps(int32_t* overlaps, const int8_t* column, int64_t count, int32_t change) {
  auto largest = overlaps[0] + change * column[0];
  for (int64_t i = 0; i < count; ++i) {
    overlaps[i] += change * column[i];
    largest = std::max(largest, overlaps[i]);
  }
  return largest;
}

/// Updates the neurons of one query, one by one or all at once. Returns how many have changed.
template <typename T>
int64_t update_query(const Network& network, const Sweep& sweep, const Interaction::Threshold* thresholds, T* state,
                     int32_t* overlaps) {
  const auto patterns = network.patterns();
  const auto* const table = network.interaction.differences.const_data_ptr<double>();
  auto largest = largest_of(overlaps, patterns);
  int64_t changed = 0;
  const auto flips = [&](int64_t neuron) {
    const auto now = static_cast<int32_t>(state[neuron]);
    const auto sums = sum_differences(network.column(neuron), overlaps, patterns, now,
                                      table + network.interaction.zero_of(int64_t{largest}));
    const auto excess =
        Sums::sum(sums.difference) - thresholds[neuron].constant - thresholds[neuron].factor * Sums::sum(sums.total);
    return now > 0 ? excess < 0.0 : excess > 0.0;
  };
  const auto flip = [&](int64_t neuron) {
    state[neuron] = -state[neuron];
    largest = change_overlaps(overlaps, network.column(neuron), patterns, 2 * static_cast<int32_t>(state[neuron]));
    ++changed;
  };
  for (const auto neuron : sweep.order) {
    if (flips(neuron)) flip(neuron);
  }
  if (sweep.order.empty()) {
    std::vector<int64_t> flipping;
    for (int64_t neuron = 0; neuron < network.neurons(); ++neuron) {
      if (flips(neuron)) flipping.push_back(neuron);
    }
    for (const auto neuron : flipping) flip(neuron);
  }
  return changed;
}

/// Runs a function for queries 0 to count - 1 in parallel, each of which costs `work` sums over patterns.
template <typename Function>
void for_each_query(int64_t count, int64_t work, const Function& function) {
  at::parallel_for(0, count, std::max<int64_t>(1, kWorkOfThread / work), [&](int64_t begin, int64_t end) {
    for (int64_t query = begin; query < end; ++query) function(query);
  });
}

at::Tensor update_dense(const Network& network, const at::Tensor& states, const at::Tensor& overlaps,
                        const Sweep& sweep, const at::Tensor& active) {
  const auto neurons = network.neurons(), patterns = network.patterns();
  const auto thresholds = network.interaction.thresholds_of(sweep.thresholds);
  auto changed = at::empty_like(active);
  auto* const counts = changed.mutable_data_ptr<int64_t>();
  const auto* const queries = active.const_data_ptr<int64_t>();
  auto* const all_overlaps = overlaps.mutable_data_ptr<int32_t>();
  AT_DISPATCH_FLOATING_TYPES(states.scalar_type(), "update_dense", [&] {
    auto* const all_states = states.mutable_data_ptr<scalar_t>();
    for_each_query(active.numel(), neurons * patterns, [&](int64_t i) {
      counts[i] = update_query(network, sweep, thresholds.data(), all_states + queries[i] * neurons,
                               all_overlaps + queries[i] * patterns);
    });
  });
  return changed;
}

/// The energies [Q] of states with the overlaps [Q, N] int32, on the CPU.
at::Tensor energies_of(const Interaction& interaction, const at::Tensor& overlaps) {
  const auto patterns = overlaps.size(1);
  auto energies = at::empty({overlaps.size(0)}, at::kDouble);
  auto* const results = energies.mutable_data_ptr<double>();
  const auto* const table = interaction.values.const_data_ptr<double>();
  for_each_query(overlaps.size(0), patterns, [&](int64_t query) {
    const auto* const row = overlaps.const_data_ptr<int32_t>() + query * patterns;
    const auto largest = largest_of(row, patterns);
    const auto* const values = table + interaction.zero_of(int64_t{largest});
    Sums sums;
    for (int64_t i = 0; i < patterns; ++i) sums.add(i, 0.0, values[row[i]]);
    results[query] = interaction.energy_of(Sums::sum(sums.total), largest);
  });
  return energies;
}

at::Tensor energies_composite(const Interaction& interaction, const at::Tensor& overlaps) {
  const auto largest = overlaps.amax(-1);
  const auto entries = (overlaps + interaction.zero_of(largest).unsqueeze(-1)).to(at::kLong);
  return interaction.energy_of(interaction.values.to(overlaps.device()).take(entries).sum(-1), largest);
}

/// The overlaps of states [Q, d] with patterns [N, d]: int32 on the CPU, float64 elsewhere. They are integers below
/// 2^24, which products in float32 leave exact. [Q, N]
at::Tensor overlaps_of(const at::Tensor& states, const at::Tensor& patterns) {
  return states.mm(patterns.t()).to(states.is_cpu() ? at::kInt : at::kDouble);
}

int64_t queries_of_tile(int64_t patterns) { return std::max<int64_t>(1, kTileBytes / (kBytesOfOverlap * patterns)); }

Recall joined(const std::vector<Recall>& parts) {
  if (parts.size() == 1) return parts[0];
  Recall whole;
  for (const auto member :
       {&Recall::state, &Recall::energy, &Recall::steps, &Recall::converged, &Recall::residual, &Recall::period}) {
    std::vector<at::Tensor> tensors;
    for (const auto& part : parts) tensors.push_back(part.*member);
    whole.*member = at::cat(tensors);
  }
  return whole;
}

}  // namespace

at::Tensor update_dense_composite(const Interaction& interaction, const at::Tensor& patterns, const at::Tensor& states,
                                  const at::Tensor& overlaps, const Sweep& sweep, const at::Tensor& active) {
  const auto x = patterns.to(at::kDouble);  // [N, d]
  const auto table = interaction.differences.to(x.device());
  const auto thresholds = interaction.thresholds_of(sweep.thresholds);
  auto some_states = states.index_select(0, active).to(at::kDouble);  // [n, d]
  auto some_overlaps = overlaps.index_select(0, active);              // [n, N]
  const auto before = some_states.clone();
  const auto differences = [&](const at::Tensor& rest) {
    return table.take((rest + interaction.zero_of(some_overlaps.amax(-1, /*keepdim=*/true))).to(at::kLong));
  };
  for (const auto neuron : sweep.order) {
    const auto column = x.select(1, neuron);     // [N]
    auto state = some_states.select(1, neuron);  // [n]
    const auto values = differences(some_overlaps - state.unsqueeze(-1) * column);
    const auto excess = values.mv(column) - thresholds[neuron].constant - thresholds[neuron].factor * values.sum(-1);
    const auto flips = (excess.sign() * state).lt(0).to(at::kDouble);
    state.mul_(1 - 2 * flips);
    some_overlaps.addr_(2 * flips * state, column);
  }
  if (sweep.order.empty()) {
    // A pattern contributes D(m - 1) to a neuron with which it agrees, and otherwise -D(m + 1), times the state.
    const auto below = differences(some_overlaps - 1), above = differences(some_overlaps + 1);
    const auto half_sum = 0.5 * (below + above), half_difference = 0.5 * (below - above);
    const auto sums = half_sum.mm(x) + some_states * half_difference.sum(-1, /*keepdim=*/true);
    const auto totals = half_sum.sum(-1, /*keepdim=*/true) + some_states * half_difference.mm(x);
    std::vector<double> constants, factors;
    for (const auto& threshold : thresholds) {
      constants.push_back(threshold.constant);
      factors.push_back(threshold.factor);
    }
    const auto excess = sums - at::tensor(constants, x.options()) - at::tensor(factors, x.options()) * totals;
    some_states = at::where(excess.eq(0), some_states, excess.sign());
    some_overlaps = some_states.mm(x.t());
  }
  states.index_copy_(0, active, some_states.to(states.scalar_type()));
  overlaps.index_copy_(0, active, some_overlaps);
  return some_states.ne(before).sum(-1);
}

Recall recall_dense(const Interaction& interaction, const at::Tensor& patterns, const at::Tensor& queries,
                    const RecallSettings& settings) {
  Network network{interaction, {}};
  if (patterns.is_cpu())
    network.columns = at::empty({patterns.size(1), patterns.size(0)}, at::kChar).copy_(patterns.t());
  std::vector<Recall> parts;
  const auto step = queries_of_tile(patterns.size(0));
  int64_t first = 0;
  do {
    const auto states =
        queries.narrow(0, first, std::min(step, queries.size(0) - first)).clone(at::MemoryFormat::Contiguous);
    const auto overlaps = overlaps_of(states, patterns);
    parts.push_back(make_sweeps(states, settings, [&](const Sweep& sweep, const at::Tensor& active) {
      return states.is_cpu() ? update_dense(network, states, overlaps, sweep, active)
                             : update_dense_composite(interaction, patterns, states, overlaps, sweep, active);
    }));
    const auto energies =
        states.is_cpu() ? energies_of(interaction, overlaps) : energies_composite(interaction, overlaps);
    parts.back().energy = energies.to(states.scalar_type());
    first += step;
  } while (first < queries.size(0));
  return joined(parts);
}

at::Tensor energies_dense(const Interaction& interaction, const at::Tensor& patterns, const at::Tensor& states) {
  return recall_dense(interaction, patterns, states, RecallOptions().update_steps_max(0).settings()).energy;
}

}  // namespace hopfield::memory::detail
