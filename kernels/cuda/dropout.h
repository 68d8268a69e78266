#pragma once

#include <kernels/cuda/numbers.h>
#include <kernels/philox.h>

namespace hopfield::kernels::cuda {

/// Factors of four entries of the final association: 0 where the entry is dropped, otherwise 1 / (1 - probability).
struct DropoutFactors {
  float values[4];
};

/// The factors of the keys 4 n .. 4 n + 3 of a row. Not inlined: unrolled loops would have a copy for each key of a
/// lane.
HOPFIELD_DEVICE_CALL DropoutFactors dropout_factors(uint64_t seed, double probability, int batch, int head, int query,
                                                    int n) {
  if (probability >= 1.0) return {};
  const auto words = dropout_words(seed, static_cast<uint32_t>(batch), static_cast<uint32_t>(head),
                                   static_cast<uint32_t>(query), static_cast<uint32_t>(n));
  const auto threshold = dropout_threshold(probability);
  const auto kept = static_cast<float>(1.0 / (1.0 - probability));
  DropoutFactors factors;
  HOPFIELD_UNROLL
  for (int i = 0; i < 4; ++i) factors.values[i] = words[static_cast<size_t>(i)] < threshold ? 0.0f : kept;
  return factors;
}

/// The factor of one key.
HOPFIELD_DEVICE float dropout_factor(uint64_t seed, double probability, int batch, int head, int query, int key) {
  const auto of = dropout_factors(seed, probability, batch, head, query, key / 4);
  const float low = key % 2 == 0 ? of.values[0] : of.values[1], high = key % 2 == 0 ? of.values[2] : of.values[3];
  return key % 4 < 2 ? low : high;
}

}  // namespace hopfield::kernels::cuda
