#pragma once

// Small things that products and softmaxes of a warp are made of.

#include <kernels/cuda/memory.h>
#include <kernels/cuda/mma.h>
#include <kernels/cuda/warp.h>

#include <cstdint>
#include <type_traits>

namespace hopfield::kernels::cuda {

constexpr float kLog2e = 1.44269504088896341f;

HOPFIELD_DEVICE float minus_infinity() { return bits_float(0xFF800000u); }

template <class T>
constexpr bool kIsFloat = std::is_same_v<T, float>;

/// Sum of a value over the warp, the same in all lanes.
HOPFIELD_DEVICE float warp_sum(float value) {
  for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

/// Over the four lanes of a row.
HOPFIELD_DEVICE float quad_sum(float value) {
  value += shuffle_xor(value, 1);
  return value + shuffle_xor(value, 2);
}
HOPFIELD_DEVICE float quad_max(float value) {
  const float other = shuffle_xor(value, 1);
  value = value < other ? other : value;
  const float more = shuffle_xor(value, 2);
  return value < more ? more : value;
}

/// Two 16-bit numbers whose sum is nearly `value`: bfloat16 alone would cost two digits, and passes over a bag wait for
/// memory, not for products.
template <class T>
struct Split {
  T high, low;
  HOPFIELD_DEVICE explicit Split(float value)
      : high(from_float<T>(value)), low(from_float<T>(value - to_float(high))) {}
};

/// Operands of mma_m16n8k8_tf32 in two pieces that together have a float's digits.
template <int count>
struct Tf32 {
  uint32_t high[count], low[count];
  Tf32() = default;
  HOPFIELD_DEVICE explicit Tf32(const float (&values)[count]) {
    HOPFIELD_UNROLL
    for (int i = 0; i < count; ++i) {
      high[i] = to_tf32(values[i]);
      low[i] = to_tf32(values[i] - bits_float(high[i]));
    }
  }
};
using Tf32Pieces = Tf32<4>;

/// The smaller operand.
struct Tf32Pair : Tf32<2> {
  HOPFIELD_DEVICE Tf32Pair(float b0, float b1) : Tf32<2>({b0, b1}) {}
};

/// c += a b for a fragment of floats, about as exact as float32: three products of tf32.
HOPFIELD_DEVICE void multiply_add_exactly(float (&c)[4], const Tf32Pieces& a, const Tf32Pair& b) {
  mma_m16n8k8_tf32(c, a.low, b.high);
  mma_m16n8k8_tf32(c, a.high, b.low);
  mma_m16n8k8_tf32(c, a.high, b.high);
}
HOPFIELD_DEVICE void multiply_add_exactly(float (&c)[4], const Tf32Pieces& a, float b0, float b1) {
  multiply_add_exactly(c, a, Tf32Pair(b0, b1));
}

HOPFIELD_DEVICE uint32_t load_word(const void* address) { return *static_cast<const uint32_t*>(address); }

/// c += products of a lane's two queries and two patterns, four features, without tensor cores.
HOPFIELD_DEVICE void multiply_add_plainly(float (&c)[4], const Pack<float>& upper, const Pack<float>& lower,
                                          const Pack<float>& even, const Pack<float>& odd) {
  HOPFIELD_UNROLL
  for (int i = 0; i < 4; ++i) {
    c[0] = fused_multiply_add(upper.values[i], even.values[i], c[0]);
    c[1] = fused_multiply_add(upper.values[i], odd.values[i], c[1]);
    c[2] = fused_multiply_add(lower.values[i], even.values[i], c[2]);
    c[3] = fused_multiply_add(lower.values[i], odd.values[i], c[3]);
  }
}

/// A lane's two rows of a 16 x 16 matrix of floats, for products without tensor cores.
struct TwoRows {
  float upper[16], lower[16];

  /// c += these rows times two columns of `count` numbers, one below the other at `y`.
  HOPFIELD_DEVICE void multiply_add(float (&c)[4], const float* y, int64_t pitch, int count) const {
    HOPFIELD_UNROLL
    for (int i = 0; i < 16; ++i) {
      if (i >= count) break;
      const float left = y[i * pitch], right = y[i * pitch + 1];
      c[0] = fused_multiply_add(upper[i], left, c[0]);
      c[1] = fused_multiply_add(upper[i], right, c[1]);
      c[2] = fused_multiply_add(lower[i], left, c[2]);
      c[3] = fused_multiply_add(lower[i], right, c[3]);
    }
  }
};

}  // namespace hopfield::kernels::cuda
