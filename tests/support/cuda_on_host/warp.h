#pragma once

// The host bodies of kernels/cuda/warp.h and mma.h. As on the device, all lanes have to take part in a call, and only
// sync_warp() orders accesses to memory.

#include "cuda_on_host/device.h"

#include <array>
#include <cstdint>
#include <cstring>

namespace hopfield::cuda_on_host {

uint32_t shuffle_bits(uint32_t bits, int source_lane);
uint32_t ballot(bool vote);

template <class T>
T shuffle(T value, int source_lane) {
  static_assert(sizeof(T) == 4, "a shuffle moves 4 bytes");
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = shuffle_bits(bits, source_lane);
  std::memcpy(&value, &bits, 4);
  return value;
}

/// Eight 16-bit numbers, a row of an 8 x 8 matrix.
using MatrixRow = std::array<uint32_t, 4>;

/// Lane 8 i + r holds row r of matrix i; every lane gets its two numbers of each.
void distribute_matrices(uint32_t* registers, int matrices, bool transposed, const MatrixRow& row);

/// `row` is read by the lane that names it.
inline void ldmatrix(uint32_t* registers, int matrices, bool transposed, const void* row) {
  MatrixRow numbers{};
  if (position().thread % 32 < 8 * matrices) {
    require_aligned(row, 16, "ldmatrix needs rows that begin at a multiple of 16 bytes");
    require_shared(row, 16, "ldmatrix reads the shared memory of the calling block only");
    std::memcpy(numbers.data(), row, 16);
  }
  distribute_matrices(registers, matrices, transposed, numbers);
}

enum class Number { kBfloat16, kFloat16 };

/// c += a b for fragments of mma.sync.
void mma_m16n8k16(Number number, float* c, const uint32_t* a, const uint32_t* b);
void mma_m16n8k8_tf32(float* c, const uint32_t* a, const uint32_t* b);

}  // namespace hopfield::cuda_on_host
