#pragma once

// Copies of tiles of a tensor from global to shared memory, by one thread for the block (from sm_90 on). See
// async_copy.h for what bulk copies have in common.

#include <kernels/cuda/async_copy.h>
#include <kernels/cuda/tensor_map.h>

namespace hopfield::kernels::cuda {

/// Fetches the description of a tensor ahead of the first copy.
HOPFIELD_DEVICE void prefetch_tensor_map(const TensorMap* map) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#elif defined(__CUDACC__)
  __trap();
#else
  static_cast<void>(map);
#endif
}

/// Copies the tile of 64 columns that begins at this place, and counts the bytes of a whole tile at `barrier`: what
/// lies outside of the tensor becomes 0. In shared memory a row has 128 bytes, with its pieces in the order of
/// swizzled_piece() in warpgroup_mma.h. The target is aligned to 1024 bytes.
HOPFIELD_DEVICE void copy_tile(void* shared, const TensorMap* map, int column, int row, int outer, int outermost,
                               MemoryBarrier* barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(shared_address(shared)),
      "l"(map), "r"(column), "r"(row), "r"(outer), "r"(outermost), "r"(shared_address(barrier))
      : "memory");
#elif defined(__CUDACC__)
  __trap();
#else
  cuda_on_host::copy_tile(shared, map->words, {column, row, outer, outermost}, &barrier->state);
#endif
}

}  // namespace hopfield::kernels::cuda
