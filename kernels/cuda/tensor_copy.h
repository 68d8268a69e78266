#pragma once

// Copies of tiles of a tensor from global to shared memory, by one thread for the block (from sm_90 on). See
// async_copy.h for what bulk copies have in common.

#include <kernels/cuda/async_copy.h>
#include <kernels/cuda/tensor_map.h>

namespace hopfield::kernels::cuda {

/// Ahead of the first copy: the description lies in global memory.
HOPFIELD_DEVICE void prefetch_tensor_map(const TensorMap* map) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#elif defined(__CUDACC__)
  __trap();
#else
  static_cast<void>(map);
#endif
}

/// Copies the tile of 64 columns that begins at this place and tells `barrier`, always as many bytes as a tile has:
/// what is outside of the tensor becomes 0. Rows of 128 bytes, their pieces as swizzled_piece() of warpgroup_mma.h has
/// them. The target is aligned to 1024 bytes.
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
