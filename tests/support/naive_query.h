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

/// Replaces scores, of which one is finite, by their weights, and returns their logsumexp.
struct NaiveSoftmax {
  template <typename T>
  T operator()(std::vector<T>& scores) const {
    const auto largest = *std::max_element(scores.begin(), scores.end());
    T sum = 0;
    for (auto& score : scores) sum += score = std::exp(score - largest);
    for (auto& weight : scores) weight /= sum;
    return largest + std::log(sum);
  }
};

/// Computes updates and read-out by loops over single numbers, with all arithmetic in T. It depends on neither the
/// library nor LibTorch.
/// @param state       the query's pattern
/// @param stored      stored(s, i) is number i of the stored pattern s
/// @param projection  projection(s, i), likewise, has `width` numbers for each of the `keys` patterns
/// @param bias        bias(s) is added to the score of pattern s; -inf excludes it
/// @param separate    makes weights of scores, like NaiveSoftmax
template <typename T, typename Stored, typename Projection, typename Bias, typename Separate = NaiveSoftmax>
NaiveQuery<T> naive_query(std::vector<T> state, const Stored& stored, const Projection& projection, const Bias& bias,
                          int64_t keys, int64_t width, T beta, int64_t steps, const Separate& separate = {}) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const auto depth = static_cast<int64_t>(state.size());
  NaiveQuery<T> r;
  const auto associate = [&] {
    auto& weights = r.association;
    weights.assign(static_cast<size_t>(keys), -kInfinity);
    r.dead = true;
    for (int64_t s = 0; s < keys; ++s) {
      if (bias(s) == -kInfinity) continue;
      r.dead = false;
      T dot = 0;
      for (int64_t i = 0; i < depth; ++i) dot += state[i] * stored(s, i);
      weights[s] = beta * dot + bias(s);
    }
    if (r.dead) {
      weights.assign(static_cast<size_t>(keys), T{0});
    } else {
      r.logsumexp = separate(weights);
    }
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
