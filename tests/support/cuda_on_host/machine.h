#pragma once

// The inside of the runtime: what a running thread block consists of, and how a thread waits. Kernels see device.h,
// warp.h, async_copy.h and launch.h.

#include "cuda_on_host/device.h"
#include "cuda_on_host/fiber.h"
#include "cuda_on_host/sanitizers.h"
#include "cuda_on_host/warpgroup.h"

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace hopfield::cuda_on_host {

/// Threads that wait for each other, round after round. A fast thread may have come to the next round while slow ones
/// have not left this one, so there are two moments, which the rounds use in turn.
struct Barrier {
  int arrived = 0;
  int expected = 0;
  uint64_t round = 0;
  const char* place = nullptr;
  std::array<Moment, 2> moments;
};

/// What 32 lanes contribute to a warp-wide call. There are two sets of slots, for the same reason.
struct Warp {
  Barrier exchange;
  std::array<std::array<Slot, 32>, 2> slots;
};

struct BulkCopy {
  unsigned char* target;
  std::vector<unsigned char> data;
  std::unique_ptr<Moment> issued;
};

struct MemoryBarrier {
  int count;
  int pending;
  int64_t bytes = 0;  // expected and not yet copied
  uint64_t phase = 0;
  std::deque<BulkCopy> copies;
  std::array<Moment, 2> moments;
};

struct Block {
  std::array<int, 3> index{};
  int rank = 0;  // in the cluster
  unsigned char* shared = nullptr;
  int running = 0;  // threads that have not ended
  std::vector<Warp> warps;
  Barrier all;
  std::array<Barrier, 16> named;
};

struct Thread {
  Position position;
  Block* block = nullptr;
  Warp* warp = nullptr;
  Fiber* fiber = nullptr;
  const char* waits_at = nullptr;  // name of the place where it waits; null: it can go on
  bool (*ready)(const void*) = nullptr;
  const void* condition = nullptr;
  int spins = 0;  // loads since it last waited, as if in a loop that another thread's write ends
  std::vector<AsyncCopy> copies;
  int committed_groups = 0;
  WarpgroupState warpgroup;
};

/// Blocks of a cluster, and the threads that run them.
struct Cluster {
  std::vector<Block> blocks;
  std::vector<Thread> threads;
  Barrier all;
  std::map<const uint64_t*, MemoryBarrier> memory_barriers;
  size_t shared_bytes = 0;
};

Cluster& cluster();
Thread& current();

/// Lets other threads run until `condition` holds; throws when they have failed or no thread can go on.
void wait(const char* place, bool (*ready)(const void*), const void* condition);

template <class Condition>
void wait_until(const char* place, const Condition& condition) {
  if (!condition()) {
    wait(
        place, [](const void* pointer) { return (*static_cast<const Condition*>(pointer))(); }, &condition);
  }
}

/// Arrives and returns the round that it took part in.
uint64_t arrive(Barrier& barrier, const char* place, int expected, bool orders_memory);
void await(Barrier& barrier, const char* place, uint64_t round, bool orders_memory);

}  // namespace hopfield::cuda_on_host
