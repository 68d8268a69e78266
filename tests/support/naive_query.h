#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace hopfield::testing {

/// What one query gives: updates, and then the read-out.
template <typename T>
struct NaiveQuery {
  std::vector<T> state, output;
  std::vector<T> association;  // of the read-out, all zeros where the query may attend to nothing
  T logsumexp = -std::numeric_limits<T>::infinity();
  bool dead = true;
};

/// Computes updates and read-out by loops over single numbers, with all arithmetic in T. It depends on neither the
/// library nor LibTorch.
/// @param state       the query's pattern
/// @param stored      stored(s, i) is number i of the stored pattern s
/// @param projection  projection(s, i), likewise, has `width` numbers for each of the `keys` patterns
/// @param bias        bias(s) is added to the score of pattern s; -inf excludes it
template <typename T, typename Stored, typename Projection, typename Bias>
NaiveQuery<T> naive_query(std::vector<T> state, const Stored& stored, const Projection& projection, const Bias& bias,
                          int64_t keys, int64_t width, T beta, int64_t steps) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const auto depth = static_cast<int64_t>(state.size());
  NaiveQuery<T> r;
  const auto associate = [&] {
    auto& weights = r.association;
    weights.assign(static_cast<size_t>(keys), -kInfinity);
    T largest = -kInfinity, sum = 0;
    for (int64_t s = 0; s < keys; ++s) {
      if (bias(s) == -kInfinity) continue;
      T dot = 0;
      for (int64_t i = 0; i < depth; ++i) dot += state[i] * stored(s, i);
      weights[s] = beta * dot + bias(s);
      largest = std::max(largest, weights[s]);
    }
    r.dead = largest == -kInfinity;
    for (auto& weight : weights) sum += weight = r.dead ? 0 : std::exp(weight - largest);
    for (auto& weight : weights) weight = r.dead ? 0 : weight / sum;
    if (!r.dead) r.logsumexp = largest + std::log(sum);
  };
  const auto mean_of = [&](const auto& patterns, int64_t size) {
    std::vector<T> mean(static_cast<size_t>(size), T{0});
    for (int64_t s = 0; s < keys; ++s) {
      for (int64_t i = 0; i < size; ++i) mean[i] += r.association[s] * patterns(s, i);
    }
    return mean;
  };
  for (int64_t t = 0; t < steps; ++t) {
    associate();
    if (r.dead) break;
    state = mean_of(stored, depth);
  }
  associate();
  r.output = mean_of(projection, width);
  r.state = std::move(state);
  return r;
}

}  // namespace hopfield::testing
