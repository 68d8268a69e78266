#pragma once

// How far off those numbers of a GPU may be that are not simply the nearest ones. The bounds of tests are made of
// these.

#include <kernels/params.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace hopfield::testing {

/// ex2.approx, as a part of the result: 2 units in the last place from the nearest float (PTX ISA).
constexpr double kExp2Error = 2.5 * 0x1p-23;

/// lg2.approx, between 1/2 and 2 and elsewhere as a part of the result (PTX ISA).
constexpr double kLog2Error = 0x1p-22;

/// rsqrt.approx, as a part of the result: 2^-22.9 (PTX ISA).
constexpr double kRsqrtError = 1.2777e-7;

/// What rounding to the nearest number of a type costs at most, as a part of the number.
inline double rounding_of(kernels::ElementType type) {
  return type == kernels::ElementType::bfloat16 ? 0x1p-8 : type == kernels::ElementType::float16 ? 0x1p-11 : 0x1p-24;
}

// Sums of products by tensor cores. PTX promises no more than single precision, with rounding of any kind. An A100 adds
// 8 products of 16-bit numbers to the sum at a time, or 4 of tf32. All of them are cut off, towards 0, at 2^-24 of the
// largest, and so is the new sum, to a float: at 2^-23 of it. An H100 adds twice as many and cuts off at 2^-25, which
// costs less (Khattak and Mikaitis, Accurate Models of NVIDIA Tensor Cores, 2025).
constexpr double kCutOff = 0x1p-23;

inline int products_at_once(kernels::ElementType type) { return type == kernels::ElementType::float32 ? 4 : 8; }

/// How often a sum of `count` products is cut off. Products of float32 are three products of tf32 each.
inline double cuts(kernels::ElementType type, int64_t count) {
  const int at_once = products_at_once(type);
  return static_cast<double>((count + at_once - 1) / at_once * (type == kernels::ElementType::float32 ? 3 : 1));
}

/// The largest error of a sum of `count` products, as a part of the sum of their magnitudes.
/// @param plain  without tensor cores: each addition is rounded
inline double product_error(kernels::ElementType type, bool plain, int64_t count) {
  if (plain) return static_cast<double>(count) * 0x1p-24;
  // Each factor of float32 is two numbers of tf32, off by 2^-22, and the product of the two small ones is left out.
  const double pieces = type == kernels::ElementType::float32 ? 3 * 0x1p-22 : 0;
  return pieces + cuts(type, count) * (1 + products_at_once(type) / 2) * kCutOff;
}

/// The expected error of a long sum, as a part of it: each time half of a digit, of a sum that grows steadily.
inline double drift(kernels::ElementType type, bool plain, int64_t count) {
  return plain ? 0 : cuts(type, count) * kCutOff / 4;
}

}  // namespace hopfield::testing
