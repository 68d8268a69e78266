#pragma once

// The host bodies of kernels/cuda/device.h and cluster.h: the position of a thread, its shared memory, and waiting for
// other threads.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace hopfield::cuda_on_host {

struct Position {
  int thread = 0;
  int threads = 0;  // of a block
  std::array<int, 3> block{};
  std::array<int, 3> grid{};
  int cluster_rank = 0;
  int cluster_size = 1;
};

/// Position of the calling thread.
const Position& position();

/// Ends the launch with a sentence about the calling thread.
[[noreturn]] void fail(const std::string& sentence);
inline void require(bool condition, const char* sentence) {
  if (!condition) fail(sentence);
}

unsigned char* shared_memory();

/// The address that instructions on shared memory take. As on the device, a kernel knows nothing of where shared memory
/// begins but that the address is a multiple of 128.
uint32_t shared_address(const void* pointer);
unsigned char* at_shared_address(uint32_t address);

/// The swizzle of rows of 128 bytes, which repeats every eight rows: the number of a 16-byte piece in its row, bits 4
/// to 6 of the address, is combined by exclusive or with the number of the row, bits 7 to 9.
constexpr uint32_t swizzled(uint32_t address) { return address ^ (address >> 3 & 0x70u); }

/// Fails unless the bytes lie in the shared memory of the caller's block.
void require_shared(const void* address, size_t bytes, const char* sentence);
inline void require_aligned(const void* address, size_t alignment, const char* sentence) {
  require(reinterpret_cast<uintptr_t>(address) % alignment == 0, sentence);
}

void sync_threads();
void sync_barrier(int barrier, int threads);
void arrive_barrier(int barrier, int threads);
void sync_warp();
void sync_cluster();
void* peer_shared(const void* own, int rank);

/// Called where a thread may be reading in a loop until another one writes. Lets other threads run now and then, and
/// fails where none can write any more.
void note_spin();

/// What a lane contributes to a warp-wide call.
struct Slot {
  alignas(16) std::array<uint32_t, 12> words;
};

/// A copy that is under way.
struct AsyncCopy {
  unsigned char* target;
  int bytes;
  int group;
  alignas(16) std::array<unsigned char, 16> data;
};

}  // namespace hopfield::cuda_on_host
