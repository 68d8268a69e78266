#pragma once

// Global memory: 16 bytes at a time, atomics, and what blocks of one launch tell each other.
//
// Results pass from block to block in one way: all threads write, sync_threads(), one thread takes a ticket, and the
// block that draws the last one reads after another sync_threads(). atomic_add by itself orders nothing.

#include <kernels/cuda/device.h>

#include <cstdint>

namespace hopfield::kernels::cuda {

/// 16 bytes that are read or written at once.
template <class T>
struct alignas(16) Pack {
  static constexpr int kSize = static_cast<int>(16 / sizeof(T));
  T values[kSize];

  HOPFIELD_DEVICE T& operator[](int i) { return values[i]; }
  HOPFIELD_DEVICE const T& operator[](int i) const { return values[i]; }
};

/// From global or shared memory. `source` is aligned to 16 bytes, here and below.
template <class T>
HOPFIELD_DEVICE Pack<T> load_pack(const T* source) {
#if defined(__CUDACC__)
  return *reinterpret_cast<const Pack<T>*>(source);
#else
  return cuda_on_host::load16<Pack<T>>(source);
#endif
}

/// From global memory that no thread writes during the launch, to be used again soon.
template <class T>
HOPFIELD_DEVICE Pack<T> load_constant(const T* source) {
#if defined(__CUDACC__)
  union {
    Pack<T> pack;
    uint4 words;
  } result = {};
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(result.words.x), "=r"(result.words.y), "=r"(result.words.z), "=r"(result.words.w)
      : "l"(__cvta_generic_to_global(source)));
  return result.pack;
#else
  return cuda_on_host::load16<Pack<T>>(source);
#endif
}

/// From global memory that no thread writes during the launch and this block will not read again.
template <class T>
HOPFIELD_DEVICE Pack<T> load_streaming(const T* source) {
#if defined(__CUDACC__)
  union {
    Pack<T> pack;
    uint4 words;
  } result = {};
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(result.words.x), "=r"(result.words.y), "=r"(result.words.z), "=r"(result.words.w)
      : "l"(__cvta_generic_to_global(source)));
  return result.pack;
#else
  return cuda_on_host::load16<Pack<T>>(source);
#endif
}

/// To global or shared memory.
template <class T>
HOPFIELD_DEVICE void store_pack(T* target, const Pack<T>& pack) {
#if defined(__CUDACC__)
  *reinterpret_cast<Pack<T>*>(target) = pack;
#else
  cuda_on_host::store16(target, pack);
#endif
}

/// To global memory that is not read soon.
template <class T>
HOPFIELD_DEVICE void store_streaming(T* target, const Pack<T>& pack) {
#if defined(__CUDACC__)
  union {
    Pack<T> pack;
    uint4 words;
  } source = {pack};
  asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(target)),
               "r"(source.words.x), "r"(source.words.y), "r"(source.words.z), "r"(source.words.w)
               : "memory");
#else
  cuda_on_host::store16(target, pack);
#endif
}

/// Reads 4 bytes that another block of this launch may have written, at once and from the second-level cache.
template <class T>
HOPFIELD_DEVICE T load_fresh(const T* source) {
  static_assert(sizeof(T) == 4, "load_fresh reads 4 bytes");
#if defined(__CUDACC__)
  union {
    uint32_t bits;
    T value;
  } result = {0};
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];"
               : "=r"(result.bits)
               : "l"(__cvta_generic_to_global(source))
               : "memory");
  return result.value;
#else
  return cuda_on_host::load_fresh(source);
#endif
}

/// Writes 4 bytes that another block will read by load_fresh().
template <class T>
HOPFIELD_DEVICE void store_fresh(T* target, T value) {
  static_assert(sizeof(T) == 4, "store_fresh writes 4 bytes");
#if defined(__CUDACC__)
  union {
    T value;
    uint32_t bits;
  } source = {value};
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(target)), "r"(source.bits)
               : "memory");
#else
  cuda_on_host::store_relaxed(target, value);
#endif
}

/// Adds, and returns the value before. For uint32_t, int and float, in global or shared memory.
template <class T>
HOPFIELD_DEVICE T atomic_add(T* target, T value) {
#if defined(__CUDACC__)
  return atomicAdd(target, value);
#else
  return cuda_on_host::atomic_add(target, value);
#endif
}

/// Keeps the larger one, and returns the value before.
HOPFIELD_DEVICE uint32_t atomic_max(uint32_t* target, uint32_t value) {
#if defined(__CUDACC__)
  return atomicMax(target, value);
#else
  return cuda_on_host::atomic_max(target, value);
#endif
}

/// The device sees what this thread wrote before the fence ahead of what it writes behind it. By itself that orders
/// nothing with the accesses of other threads: see take_ticket().
HOPFIELD_DEVICE void thread_fence() {
#if defined(__CUDACC__)
  __threadfence();
#endif
}

/// Adds one to a counter in global memory and returns its value before. Whoever takes a later ticket of the same
/// counter sees everything that was done before an earlier one was taken.
HOPFIELD_DEVICE uint32_t take_ticket(uint32_t* counter) {
#if defined(__CUDACC__)
  uint32_t ticket;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
               : "=r"(ticket)
               : "l"(__cvta_generic_to_global(counter))
               : "memory");
  return ticket;
#else
  return __atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL);
#endif
}

}  // namespace hopfield::kernels::cuda
