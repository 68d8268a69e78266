#pragma once

// Sums and maxima over lanes of a warp, the same in all of them. Each adds up in one order: the bits do not change.

#include <kernels/cuda/warp.h>

namespace hopfield::kernels::cuda {

/// Over all lanes.
HOPFIELD_DEVICE float warp_sum(float value) {
  for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

/// Over the four lanes that share the rows of a fragment, see mma.h.
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

}  // namespace hopfield::kernels::cuda
