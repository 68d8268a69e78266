#pragma once

// The random numbers of the calls that tests make, in float64 and on the device.

#include "../../support/element_types.h"
#include "../../support/plain_oracle.h"
#include "harness.h"

#include <cmath>
#include <limits>

namespace hopfield::kernels::cuda {

using hopfield::testing::PlainCall;
using hopfield::testing::PlainOracle;
using hopfield::testing::PlainResult;
using hopfield::testing::rounded;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr uint64_t kSeed = 0x123456789ABCDEFull;

inline std::vector<double> random_doubles(int64_t count, uint32_t seed) {
  const auto floats = random_floats(static_cast<size_t>(count), seed);
  return {floats.begin(), floats.end()};
}

/// Random numbers that the type has.
inline std::vector<double> random_numbers(int64_t count, uint32_t seed, ElementType type) {
  auto values = random_doubles(count, seed);
  for (auto& value : values) value = rounded(static_cast<float>(value), type);
  return values;
}

inline std::vector<float> as_floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }

/// Offsets of bags of these sizes.
inline std::vector<int64_t> offsets_of(const std::vector<int64_t>& bags) {
  std::vector<int64_t> offsets{0};
  for (const auto size : bags) offsets.push_back(offsets.back() + size);
  return offsets;
}

/// Where a drawn tensor lies: `width` numbers to a row, and NaN behind them up to a multiple of 16 bytes. They belong
/// to somebody else, and no kernel may read them.
inline int64_t padded_row(int64_t width) { return (width / 8 + 1) * 8; }
inline std::vector<double> with_padding(const std::vector<double>& values, int64_t width) {
  const auto row = padded_row(width), rows = static_cast<int64_t>(values.size()) / width;
  std::vector<double> padded(static_cast<size_t>(rows * row), std::nan(""));
  for (int64_t i = 0; i < rows * width; ++i) padded[i / width * row + i % width] = values[i];
  return padded;
}

}  // namespace hopfield::kernels::cuda
