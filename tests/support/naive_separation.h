#pragma once

#include <hopfield/core/separation.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace hopfield::testing {

/// What a separation makes of one row of scores.
struct NaiveSeparated {
  std::vector<double> weights;
  double conjugate = -std::numeric_limits<double>::infinity();
};

/// Computes a separation from its definition, by loops in long double: the threshold of entmax by bisection, and every
/// conjugate as <y, t> - Omega(y). Scores of -inf are excluded, and at least one score is finite. It has nothing in
/// common with the library's way.
inline NaiveSeparated naive_separate(const std::vector<double>& scores, const Separation& separation) {
  using Number = long double;
  const auto kind = separation.kind();
  const Number alpha = separation.alpha();
  const Number largest = *std::max_element(scores.begin(), scores.end());
  const auto is_excluded = [&](size_t i) { return std::isinf(scores[i]); };
  std::vector<Number> weights(scores.size());

  if (separation.is_sparse()) {
    // With the largest score at 0, tau is at least -1, where the largest weight alone is 1, and at most 0.
    const auto sum_at = [&](Number tau) {
      Number sum = 0;
      for (size_t i = 0; i < scores.size(); ++i) {
        const Number base = is_excluded(i) ? Number{0} : (alpha - 1) * (scores[i] - largest) - tau;
        sum += weights[i] = base > 0 ? std::pow(base, 1 / (alpha - 1)) : Number{0};
      }
      return sum;
    };
    Number low = -1, high = 0;
    for (int i = 0; i < 200; ++i) (sum_at((low + high) / 2) > 1 ? low : high) = (low + high) / 2;
    const auto sum = sum_at((low + high) / 2);
    for (auto& weight : weights) weight /= sum;
  } else {
    const Number nothing = kind == Separation::Kind::softmax1 ? std::exp(-std::max(largest, Number{0})) : 0;
    const Number shift = kind == Separation::Kind::softmax1 ? std::max(largest, Number{0}) : largest;
    Number sum = nothing;
    for (size_t i = 0; i < scores.size(); ++i) {
      sum += weights[i] = is_excluded(i) ? Number{0} : std::exp(scores[i] - shift);
    }
    for (auto& weight : weights) weight /= sum;
  }

  Number product = 0, regulariser = 0, total = 0;
  const auto plogp = [](Number p) { return p > 0 ? p * std::log(p) : Number{0}; };
  for (size_t i = 0; i < scores.size(); ++i) {
    if (is_excluded(i)) continue;
    const auto weight = weights[i];
    total += weight;
    product += weight * scores[i];
    regulariser += separation.is_sparse() ? (std::pow(weight, alpha) - weight) / (alpha * (alpha - 1)) : plogp(weight);
  }
  if (kind == Separation::Kind::softmax1) regulariser += plogp(1 - total);
  NaiveSeparated result;
  result.weights.assign(weights.begin(), weights.end());
  result.conjugate = static_cast<double>(product - regulariser);
  return result;
}

}  // namespace hopfield::testing
