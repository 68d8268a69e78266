#pragma once

#include <array>
#include <cstdint>

#if defined(__CUDACC__)
#define HOPFIELD_HOST_DEVICE __host__ __device__
#else
#define HOPFIELD_HOST_DEVICE
#endif

namespace hopfield::kernels {

/// The input of Philox4x32-10, a counter-based random generator. The same counter and key give the same four words
/// everywhere. Forward and backward pass, padded and ragged bags, CPU and GPU can therefore use the same dropout mask
/// without storing it.
///
/// Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
struct Philox {
  std::array<uint32_t, 4> counter;
  std::array<uint32_t, 2> key;
};

/// The four random words.
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

/// The words for the keys 4 * group .. 4 * group + 3 in row (n, h, l) of the association. Each word decides over one
/// key: the key is dropped if its word is below dropout_threshold(probability).
HOPFIELD_HOST_DEVICE inline std::array<uint32_t, 4> dropout_words(uint64_t seed, uint32_t n, uint32_t h, uint32_t l,
                                                                  uint32_t group) {
  return philox4x32_10({{group, l, h, n}, {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}});
}

/// The number of 32-bit words, out of 2^32, that drop their key. The caller handles the probability 1, which would need
/// 2^32.
HOPFIELD_HOST_DEVICE inline uint32_t dropout_threshold(double probability) {
  return static_cast<uint32_t>(probability * 4294967296.0);
}

}  // namespace hopfield::kernels
