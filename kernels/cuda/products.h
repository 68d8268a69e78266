#pragma once

// Products of float32 numbers by a warp's lanes, and pairs of 16-bit numbers that stand for a float.

#include <kernels/cuda/memory.h>
#include <kernels/cuda/mma.h>

#include <cstdint>

namespace hopfield::kernels::cuda {

/// Two 16-bit numbers whose sum is nearly `value`. A single one would cost two digits, and a second product costs
/// nothing where a kernel waits for memory.
template <class T>
struct Split {
  T high, low;
  HOPFIELD_DEVICE explicit Split(float value)
      : high(from_float<T>(value)), low(from_float<T>(value - to_float(high))) {}
};

/// Operands of mma_m16n8k8_tf32, each as the sum of two tf32 numbers, which together have the digits of a float.
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
using Tf32Pieces = Tf32<4>;  ///< of the operand A, see mma.h

/// Of the operand B.
struct Tf32Pair : Tf32<2> {
  HOPFIELD_DEVICE Tf32Pair(float b0, float b1) : Tf32<2>({b0, b1}) {}
};

/// c += a b for a fragment of floats, by three products of tf32. It is about as exact as float32: only the product of
/// the two low pieces is left out.
HOPFIELD_DEVICE void multiply_add_exactly(float (&c)[4], const Tf32Pieces& a, const Tf32Pair& b) {
  mma_m16n8k8_tf32(c, a.low, b.high);
  mma_m16n8k8_tf32(c, a.high, b.low);
  mma_m16n8k8_tf32(c, a.high, b.high);
}
HOPFIELD_DEVICE void multiply_add_exactly(float (&c)[4], const Tf32Pieces& a, float b0, float b1) {
  multiply_add_exactly(c, a, Tf32Pair(b0, b1));
}

HOPFIELD_DEVICE uint32_t load_word(const void* address) { return *static_cast<const uint32_t*>(address); }

/// c += products of a lane's two rows with its two columns over four features, without tensor cores.
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

  /// c += these rows times two neighbouring columns of a matrix with `count` rows, `pitch` apart, at `y`.
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
