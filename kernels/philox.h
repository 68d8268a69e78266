#pragma once

#include <array>
#include <cstdint>

#if defined(__CUDACC__)
#define HOPFIELD_HOST_DEVICE __host__ __device__
#else
#define HOPFIELD_HOST_DEVICE
#endif

namespace hopfield::kernels {

/// Philox4x32-10, a counter-based random generator: the same counter and key give the same four words everywhere, so
/// forward and backward, padded and ragged, CPU and GPU agree on a dropout mask without storing it.
///
/// Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
struct Philox {
  std::array<uint32_t, 4> counter;
  std::array<uint32_t, 2> key;
};

HOPFIELD_HOST_DEVICE inline std::array<uint32_t, 4> philox4x32_10(Philox at) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * at.counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * at.counter[2];
    at.counter = {static_cast<uint32_t>(product1 >> 32) ^ at.counter[1] ^ at.key[0], static_cast<uint32_t>(product1),
                  static_cast<uint32_t>(product0 >> 32) ^ at.counter[3] ^ at.key[1], static_cast<uint32_t>(product0)};
    at.key[0] += 0x9E3779B9u;
    at.key[1] += 0xBB67AE85u;
  }
  return at.counter;
}

/// The words that decide over keys 4 * group .. 4 * group + 3 of association row (n, h, l). One word belongs to one
/// key; the key is dropped when its word is below dropout_threshold(probability).
HOPFIELD_HOST_DEVICE inline std::array<uint32_t, 4> dropout_words(uint64_t seed, uint32_t n, uint32_t h, uint32_t l,
                                                                  uint32_t group) {
  return philox4x32_10({{group, l, h, n}, {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}});
}

/// Words below this number drop their key. Probability 1 is handled by the caller: it would need 2^32.
HOPFIELD_HOST_DEVICE inline uint32_t dropout_threshold(double probability) {
  return static_cast<uint32_t>(probability * 4294967296.0);
}

}  // namespace hopfield::kernels
