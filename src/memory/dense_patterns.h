#pragma once

#include "memory/interaction.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

/// Sums over the patterns of a dense associative memory for one query, on the CPU.
namespace hopfield::memory::detail {

/// Adds numbers in a fixed order that depends on their count alone, in parts, so that an addition need not wait for the
/// one before it.
class Sum {
 public:
  static constexpr int64_t kParts = 8;

  void add(int64_t i, double value) { parts_[i % kParts] += value; }
  double value() const {
    return ((parts_[0] + parts_[1]) + (parts_[2] + parts_[3])) + ((parts_[4] + parts_[5]) + (parts_[6] + parts_[7]));
  }

 private:
  double parts_[kParts] = {};
};

/// What the decisions of all neurons of a query have in common: sums over the patterns, in the notation of Interaction.
struct StateSums {
  double constant = 0.0;   ///< sum_i c_i
  double magnitude = 0.0;  ///< sum_i |e_i| + |c_i|
  int64_t largest = 0;     ///< the largest overlap
};

/// Computes the half sums e_i and what belongs to them from the overlaps m_i [count].
inline StateSums sum_state(const Interaction& interaction, const int32_t* overlaps, int64_t count, double* half_sums) {
  StateSums result;
  result.largest = *std::max_element(overlaps, overlaps + count);
  const auto zero = interaction.zero_of(result.largest);
  const auto* const sums = interaction.half_sums.const_data_ptr<double>() + zero;
  const auto* const differences = interaction.half_differences.const_data_ptr<double>() + zero;
  Sum constant, magnitude;
  for (int64_t i = 0; i < count; ++i) {
    const auto sum = sums[overlaps[i]], difference = differences[overlaps[i]];
    half_sums[i] = sum;
    constant.add(i, difference);
    magnitude.add(i, std::abs(sum) + std::abs(difference));
  }
  result.constant = constant.value();
  result.magnitude = magnitude.value();
  return result;
}

/// sum_i x_ij e_i.
inline double sum_signed(const int8_t* column, const double* half_sums, int64_t count) {
  // Blocks are converted first, as compilers vectorize that loop and the sum, but not both in one.
  constexpr int64_t kBlock = 8 * Sum::kParts;
  double parts[Sum::kParts] = {}, signs[kBlock];
  int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    for (int64_t j = 0; j < kBlock; ++j) signs[j] = column[i + j];
    for (int64_t j = 0; j < kBlock; j += Sum::kParts) {
      for (int64_t part = 0; part < Sum::kParts; ++part) parts[part] += signs[j + part] * half_sums[i + j + part];
    }
  }
  Sum sum;
  for (int64_t part = 0; part < Sum::kParts; ++part) sum.add(part, parts[part]);
  for (; i < count; ++i) sum.add(i, column[i] * half_sums[i]);
  return sum.value();
}

/// By how much sums over `count` patterns can be wrong, in units of their magnitude, whatever the order in which they
/// were added. The tables themselves are wrong by a few hundred units in the last place at most.
inline double rounding_of_sums(int64_t count) {
  return (static_cast<double>(count) + 512.0) * std::numeric_limits<double>::epsilon();
}

/// The sign of sum_i x_ij D(r_i), which is 0 if the terms of each |r| cancel out. `state` is s_j.
inline int exact_sign(const Interaction& interaction, const int8_t* column, const int32_t* overlaps, int64_t count,
                      int64_t neurons, int32_t state) {
  std::vector<int64_t> occurrences(2 * neurons + 1);  // signed, of the overlaps -d .. d of the other neurons
  auto* const of_overlap = occurrences.data() + neurons;
  int64_t largest = -neurons;
  for (int64_t i = 0; i < count; ++i) {
    of_overlap[overlaps[i] - column[i] * state] += column[i];
    largest = std::max<int64_t>(largest, overlaps[i]);
  }
  const auto* const differences = interaction.differences.const_data_ptr<double>() + interaction.zero_of(largest);
  const auto term = [&](int64_t r) {
    return of_overlap[r] == 0 ? 0.0 : static_cast<double>(of_overlap[r]) * differences[r];
  };
  // From the largest terms on: those that follow do not change the sign unless all before them cancel out.
  double sum = 0.0;
  for (int64_t r = neurons; r > 0; --r) sum += term(r) + term(-r);
  sum += term(0);
  return sum > 0.0 ? 1 : sum < 0.0 ? -1 : 0;
}

}  // namespace hopfield::memory::detail
