#pragma once

// What kernels use in place of CUDA's builtins: qualifiers, indices, shared memory, barriers. Other headers of this
// folder have warps, memory, numbers, copies, matrices, clusters and the launch. nvcc compiles each function to the
// instruction that it stands for; any other compiler makes it a call, see host.h. Blocks are one-dimensional and made
// of whole warps.

#include <kernels/cuda/host.h>

#if defined(__CUDACC__)
#define HOPFIELD_KERNEL __global__
#define HOPFIELD_DEVICE __device__ __forceinline__
#define HOPFIELD_DEVICE_CALL inline __device__ __noinline__
#define HOPFIELD_LAUNCH_BOUNDS(threads, blocks_per_multiprocessor) __launch_bounds__(threads, blocks_per_multiprocessor)
#define HOPFIELD_GRID_CONSTANT __grid_constant__
#define HOPFIELD_PRAGMA(text) _Pragma(#text)
#define HOPFIELD_UNROLL HOPFIELD_PRAGMA(unroll)
#define HOPFIELD_UNROLL_BY(count) HOPFIELD_PRAGMA(unroll count)
#else
#define HOPFIELD_KERNEL
#define HOPFIELD_DEVICE inline
#define HOPFIELD_DEVICE_CALL inline
#define HOPFIELD_LAUNCH_BOUNDS(threads, blocks_per_multiprocessor)
#define HOPFIELD_GRID_CONSTANT
#define HOPFIELD_UNROLL
#define HOPFIELD_UNROLL_BY(count)
#endif

namespace hopfield::kernels::cuda {

struct Index3 {
  int x;
  int y;
  int z;
};

/// States what a kernel relies on. On the host a launch fails with the sentence where it does not hold; on the device
/// nothing is checked.
HOPFIELD_DEVICE void check(bool condition, const char* sentence) {
#if defined(__CUDACC__)
  static_cast<void>(condition), static_cast<void>(sentence);
#else
  cuda_on_host::require(condition, sentence);
#endif
}

/// Returns the value, but the compiler cannot know that. So it does not compute what depends on the value ahead of a
/// loop, which would take registers.
HOPFIELD_DEVICE int opaque(int value) {
#if defined(__CUDACC__)
  asm volatile("" : "+r"(value));
#endif
  return value;
}

HOPFIELD_DEVICE int thread_index() {
#if defined(__CUDACC__)
  return static_cast<int>(threadIdx.x);
#else
  return cuda_on_host::position().thread;
#endif
}

/// Threads of a block.
HOPFIELD_DEVICE int block_size() {
#if defined(__CUDACC__)
  return static_cast<int>(blockDim.x);
#else
  return cuda_on_host::position().threads;
#endif
}

HOPFIELD_DEVICE int lane_index() { return thread_index() % 32; }
HOPFIELD_DEVICE int warp_index() { return thread_index() / 32; }

HOPFIELD_DEVICE Index3 block_index() {
#if defined(__CUDACC__)
  return {static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z)};
#else
  const auto& block = cuda_on_host::position().block;
  return {block[0], block[1], block[2]};
#endif
}

/// Blocks of the grid.
HOPFIELD_DEVICE Index3 grid_size() {
#if defined(__CUDACC__)
  return {static_cast<int>(gridDim.x), static_cast<int>(gridDim.y), static_cast<int>(gridDim.z)};
#else
  const auto& grid = cuda_on_host::position().grid;
  return {grid[0], grid[1], grid[2]};
#endif
}

/// The shared memory that the launch asked for, aligned to 128 bytes. Kernels have no static shared variables: on the
/// host, blocks of all threads of the process would share them.
template <class T = unsigned char>
HOPFIELD_DEVICE T* shared_memory(int byte_offset = 0) {
#if defined(__CUDACC__)
  extern __shared__ __align__(128) unsigned char hopfield_shared_memory[];
  return reinterpret_cast<T*>(hopfield_shared_memory + byte_offset);
#else
  return reinterpret_cast<T*>(cuda_on_host::shared_memory() + byte_offset);
#endif
}

/// Waits for all threads of the block, and orders their accesses to shared and global memory.
HOPFIELD_DEVICE void sync_threads() {
#if defined(__CUDACC__)
  __syncthreads();
#else
  cuda_on_host::sync_threads();
#endif
}

/// Waits at barrier 1 to 15 until `threads` threads, whole warps, wait there or have arrived.
HOPFIELD_DEVICE void sync_barrier(int barrier, int threads) {
#if defined(__CUDACC__)
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
  cuda_on_host::sync_barrier(barrier, threads);
#endif
}

/// Arrives at the barrier without waiting.
HOPFIELD_DEVICE void arrive_barrier(int barrier, int threads) {
#if defined(__CUDACC__)
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
  cuda_on_host::arrive_barrier(barrier, threads);
#endif
}

/// Waits for all lanes of the warp, and orders their accesses to memory. No other call of a warp orders them.
HOPFIELD_DEVICE void sync_warp() {
#if defined(__CUDACC__)
  __syncwarp();
#else
  cuda_on_host::sync_warp();
#endif
}

/// Waits until the preceding launch of the stream has ended, if this launch may overlap it. Only then its results may
/// be read.
HOPFIELD_DEVICE void grid_dependency_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the following launch of the stream begin, if it may overlap this one.
HOPFIELD_DEVICE void grid_dependency_release() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace hopfield::kernels::cuda
