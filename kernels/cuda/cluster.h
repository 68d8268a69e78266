#pragma once

// Blocks that run together and reach each other's shared memory, from sm_90 on. Elsewhere a block is a cluster of its
// own.

#include <kernels/cuda/device.h>

#include <cstdint>

namespace hopfield::kernels::cuda {

/// Rank of the calling block in its cluster.
HOPFIELD_DEVICE int cluster_rank() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
#elif defined(__CUDACC__)
  return 0;
#else
  return cuda_on_host::position().cluster_rank;
#endif
}

/// Blocks of a cluster.
HOPFIELD_DEVICE int cluster_size() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return static_cast<int>(size);
#elif defined(__CUDACC__)
  return 1;
#else
  return cuda_on_host::position().cluster_size;
#endif
}

/// Waits for all threads of the cluster, and orders their accesses to memory. A block must not end while others may
/// still access its shared memory, so a kernel calls this after its last access to a peer.
HOPFIELD_DEVICE void cluster_sync() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#elif defined(__CUDACC__)
  __syncthreads();
#else
  cuda_on_host::sync_cluster();
#endif
}

/// The address that corresponds to `own`, in the shared memory of the calling block, in that of the block of rank
/// `rank`. It is read and written like any other memory.
template <class T>
HOPFIELD_DEVICE T* peer_shared(T* own, int rank) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  uint64_t address;
  asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(own), "r"(rank));
  return reinterpret_cast<T*>(address);
#elif defined(__CUDACC__)
  return own;
#else
  return static_cast<T*>(cuda_on_host::peer_shared(own, rank));
#endif
}

}  // namespace hopfield::kernels::cuda
