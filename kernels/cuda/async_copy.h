#pragma once

// Copies from global to shared memory that go on while the thread does other things. The target may not be read until
// the copy has been waited for, and when the copy is issued, no thread may still read what was there before.

#include <kernels/cuda/device.h>

#include <cstdint>

namespace hopfield::kernels::cuda {

/// The address that instructions on shared memory take.
HOPFIELD_DEVICE uint32_t shared_address(const void* pointer) {
#if defined(__CUDACC__)
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
#else
  return cuda_on_host::shared_address(pointer);
#endif
}

/// Copies 16 bytes, both addresses aligned to 16. Bytes beyond `source_bytes` are not read and become 0.
HOPFIELD_DEVICE void copy_async_16(void* shared, const void* global, int source_bytes = 16) {
#if defined(__CUDACC__)
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(source_bytes)
               : "memory");
#else
  cuda_on_host::copy_async(shared, global, 16, source_bytes);
#endif
}

/// Copies 4 bytes, or writes 0 where `source_bytes` is 0.
HOPFIELD_DEVICE void copy_async_4(void* shared, const void* global, int source_bytes = 4) {
#if defined(__CUDACC__)
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(source_bytes)
               : "memory");
#else
  cuda_on_host::copy_async(shared, global, 4, source_bytes);
#endif
}

/// Makes a group of this thread's copies since the last call.
HOPFIELD_DEVICE void commit_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  cuda_on_host::commit_copies();
#endif
}

/// Waits for all groups of this thread but the latest `pending`. Other threads see the copies after a barrier.
template <int pending>
HOPFIELD_DEVICE void wait_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#else
  cuda_on_host::wait_copies(pending);
#endif
}

/// A barrier in shared memory that counts arrivals and copied bytes (mbarrier, from sm_90 on as used here). Its phases
/// have parities 0, 1, 0, ...
struct MemoryBarrier {
  alignas(8) uint64_t state;
};

/// By one thread; the others use it after fence_memory_barriers() by that thread and a sync_threads().
HOPFIELD_DEVICE void init_memory_barrier(MemoryBarrier* barrier, int arrivals) {
#if defined(__CUDACC__)
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#else
  cuda_on_host::init_memory_barrier(&barrier->state, arrivals);
#endif
}

/// Makes initialised barriers known to bulk copies and to other blocks of the cluster.
HOPFIELD_DEVICE void fence_memory_barriers() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

/// Orders ordinary writes of this thread to shared memory before bulk copies and products of warpgroups that touch the
/// same bytes. Called by each thread that wrote.
HOPFIELD_DEVICE void fence_async_proxy() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

HOPFIELD_DEVICE void arrive(MemoryBarrier* barrier) {
#if defined(__CUDACC__)
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared::cta.b64 state, [%0];\n}" ::"r"(shared_address(barrier))
               : "memory");
#else
  cuda_on_host::arrive_expecting(&barrier->state, 0);
#endif
}

/// Arrives, and has the phase wait for `bytes` more bytes to be copied.
HOPFIELD_DEVICE void arrive_expecting(MemoryBarrier* barrier, uint32_t bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n}" ::"r"(
                   shared_address(barrier)),
               "r"(bytes)
               : "memory");
#elif defined(__CUDACC__)
  __trap();
#else
  cuda_on_host::arrive_expecting(&barrier->state, bytes);
#endif
}

/// Waits for the end of the phase with this parity; returns at once when the barrier is in a phase of the other parity.
HOPFIELD_DEVICE void wait(MemoryBarrier* barrier, int parity) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  uint32_t over = 0;
  while (!over) {
    asm volatile(
        "{\n.reg .pred over;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over;\n}"
        : "=r"(over)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  }
#elif defined(__CUDACC__)
  __trap();
#else
  cuda_on_host::wait_memory_barrier(&barrier->state, parity);
#endif
}

/// Copies a multiple of 16 bytes, both addresses aligned to 16, and tells `barrier`. Called by one thread. From sm_90
/// on.
HOPFIELD_DEVICE void copy_bulk(void* shared, const void* global, uint32_t bytes, MemoryBarrier* barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
#elif defined(__CUDACC__)
  __trap();
#else
  cuda_on_host::copy_bulk(shared, global, bytes, &barrier->state);
#endif
}

}  // namespace hopfield::kernels::cuda
