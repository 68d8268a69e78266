#pragma once

// Calls that all 32 lanes of a warp make together, for values of 4 bytes: float, int, uint32_t. They say nothing about
// the order of memory accesses.

#include <kernels/cuda/device.h>

#include <cstdint>

namespace hopfield::kernels::cuda {

/// The value of lane `lane_index() ^ mask`.
template <class T>
HOPFIELD_DEVICE T shuffle_xor(T value, int mask) {
#if defined(__CUDACC__)
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
#else
  return cuda_on_host::shuffle(value, lane_index() ^ mask);
#endif
}

/// The value of lane `lane`.
template <class T>
HOPFIELD_DEVICE T shuffle(T value, int lane) {
#if defined(__CUDACC__)
  return __shfl_sync(0xFFFFFFFFu, value, lane);
#else
  return cuda_on_host::shuffle(value, lane);
#endif
}

/// The value of lane `lane_index() + distance`; where there is no such lane, the calling lane's own.
template <class T>
HOPFIELD_DEVICE T shuffle_down(T value, int distance) {
#if defined(__CUDACC__)
  return __shfl_down_sync(0xFFFFFFFFu, value, static_cast<unsigned>(distance));
#else
  const int lane = lane_index();
  return cuda_on_host::shuffle(value, lane + distance < 32 ? lane + distance : lane);
#endif
}

/// Bit i is the vote of lane i.
HOPFIELD_DEVICE uint32_t ballot(bool vote) {
#if defined(__CUDACC__)
  return __ballot_sync(0xFFFFFFFFu, vote);
#else
  return cuda_on_host::ballot(vote);
#endif
}

HOPFIELD_DEVICE bool any(bool vote) {
#if defined(__CUDACC__)
  return __any_sync(0xFFFFFFFFu, vote) != 0;
#else
  return cuda_on_host::ballot(vote) != 0;
#endif
}

HOPFIELD_DEVICE bool all(bool vote) {
#if defined(__CUDACC__)
  return __all_sync(0xFFFFFFFFu, vote) != 0;
#else
  return cuda_on_host::ballot(vote) == 0xFFFFFFFFu;
#endif
}

}  // namespace hopfield::kernels::cuda
