#pragma once

// The host bodies of kernels/cuda/async_copy.h. A copy reads its source when it is issued, and writes its target as
// late as a correct program allows: when it is waited for. In between the target holds NaN. So a copy that is read or
// issued too early shows. Memory of kernels is accessed in this header only, which is compiled with the sanitizers.

#include "cuda_on_host/device.h"

#include <cstdint>
#include <cstring>
#include <memory>

namespace hopfield::cuda_on_host {

void queue(const AsyncCopy& copy);
void commit_copies();

/// The next copy of the calling thread that has to end before only `pending` groups are left; null if there is none.
bool take_copy(int pending, AsyncCopy& copy);

inline void copy_async(void* shared, const void* global, int bytes, int source_bytes) {
  require(source_bytes >= 0 && source_bytes <= bytes, "copy_async cannot read more than it writes");
  require_aligned(shared, static_cast<size_t>(bytes), "copy_async needs a target that is aligned to its size");
  require_shared(shared, static_cast<size_t>(bytes), "copy_async writes the shared memory of the calling block only");
  AsyncCopy copy{static_cast<unsigned char*>(shared), bytes, 0, {}};
  if (source_bytes > 0) {
    require_aligned(global, static_cast<size_t>(bytes), "copy_async needs a source that is aligned to its size");
    std::memcpy(copy.data.data(), global, static_cast<size_t>(source_bytes));
  }
  std::memset(shared, 0xFF, static_cast<size_t>(bytes));
  queue(copy);
}

inline void wait_copies(int pending) {
  AsyncCopy copy;
  while (take_copy(pending, copy)) std::memcpy(copy.target, copy.data.data(), static_cast<size_t>(copy.bytes));
}

void register_memory_barrier(uint64_t* barrier, int count);
void arrive_memory_barrier(uint64_t* barrier, uint32_t expected_bytes);
void queue_bulk(void* shared, const unsigned char* data, uint32_t bytes, uint64_t* barrier);

/// Waits until phase `parity` is over, and returns true; or until only copies are missing that the calling thread has
/// to carry out, and returns false.
bool await_memory_barrier(uint64_t* barrier, int parity);

/// A bulk copy to be carried out by the calling thread.
struct BulkPart {
  unsigned char* target;
  const unsigned char* data;
  size_t bytes;
};
BulkPart begin_bulk(uint64_t* barrier);
void end_bulk(uint64_t* barrier);

/// Touches the barrier, so that the thread sanitizer reports a use that is not ordered after init_memory_barrier().
inline void use_memory_barrier(uint64_t* barrier) {
  require_aligned(barrier, 8, "a memory barrier is aligned to 8 bytes");
  __atomic_load_n(barrier, __ATOMIC_RELAXED);
}

inline void init_memory_barrier(uint64_t* barrier, int count) {
  require_aligned(barrier, 8, "a memory barrier is aligned to 8 bytes");
  require_shared(barrier, 8, "a memory barrier lies in the shared memory of the calling block");
  *barrier = 0;
  register_memory_barrier(barrier, count);
}

inline void arrive_expecting(uint64_t* barrier, uint32_t bytes) {
  use_memory_barrier(barrier);
  arrive_memory_barrier(barrier, bytes);
}

inline void wait_memory_barrier(uint64_t* barrier, int parity) {
  use_memory_barrier(barrier);
  while (!await_memory_barrier(barrier, parity)) {
    const auto part = begin_bulk(barrier);
    std::memcpy(part.target, part.data, part.bytes);
    end_bulk(barrier);
  }
}

inline void copy_bulk(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  require(bytes > 0 && bytes % 16 == 0, "copy_bulk copies multiples of 16 bytes");
  require_aligned(shared, 16, "copy_bulk needs a target that is aligned to 16 bytes");
  require_aligned(global, 16, "copy_bulk needs a source that is aligned to 16 bytes");
  require_shared(shared, bytes, "copy_bulk writes the shared memory of the calling block only");
  use_memory_barrier(barrier);
  const auto data = std::make_unique<unsigned char[]>(bytes);
  std::memcpy(data.get(), global, bytes);
  std::memset(shared, 0xFF, bytes);
  queue_bulk(shared, data.get(), bytes, barrier);
}

}  // namespace hopfield::cuda_on_host
