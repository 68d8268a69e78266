#pragma once

// Sums and maxima over lanes of a warp, the same in all of them, and what softmaxes do with them. The order of sums is
// fixed, so their bits are.

#include <kernels/cuda/numbers.h>
#include <kernels/cuda/warp.h>

namespace hopfield::kernels::cuda {

/// Over all lanes.
HOPFIELD_DEVICE float warp_sum(float value) {
  for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

HOPFIELD_DEVICE float warp_max(float value) {
  for (int mask = 16; mask > 0; mask /= 2) {
    const float other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
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

/// What sums of exponentials are multiplied by when the largest score, to which they are relative, grows. If both are
/// -inf, no key has come yet and there is nothing to scale: -inf minus -inf would be NaN.
HOPFIELD_DEVICE float rescaling(float largest_before, float largest) {
  return largest_before == largest            ? 1.0f
         : largest_before == minus_infinity() ? 0.0f
                                              : fast_exp2(largest_before - largest);
}

}  // namespace hopfield::kernels::cuda
