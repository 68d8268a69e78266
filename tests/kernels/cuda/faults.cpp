// Kernels with a planted fault each, to show that it is caught: cuda_on_host_faults FAULT, or `none`. The program
// prints the result, unless a sanitizer of the build reports the fault before.

#include "harness.h"

#include <kernels/cuda/async_copy.h>
#include <kernels/cuda/memory.h>
#include <kernels/cuda/warp.h>

#include <cmath>
#include <cstdio>

namespace hopfield::kernels::cuda {
namespace {

enum class Fault { kNone, kMissingBarrier, kMissingWarpSync, kWrongIndex, kUnmaskedTail, kEarlyCopy, kUnorderedBlocks };

constexpr int kThreads = 128;

/// Adds up a number of each thread. Thread 0 returns the sum.
HOPFIELD_DEVICE float block_sum(float* shared, float mine, Fault fault) {
  const int thread = thread_index();
  shared[fault == Fault::kWrongIndex ? thread + 1 : thread] = mine;
  if (fault != Fault::kMissingBarrier) sync_threads();
  float sum = 0;
  if (warp_index() == 0) {
    for (int i = thread; i < kThreads; i += 32) sum += shared[i];
    // Each lane reads the partial sums again from shared memory.
    shared[thread] = sum;
    if (fault != Fault::kMissingWarpSync) sync_warp();
    sum = 0;
    for (int i = 0; i < 32; ++i) sum += shared[(thread + i) % 32];
  }
  return sum;
}

/// Each block adds up `count` numbers, which are fetched a tile ahead. The block that ends last adds up those sums.
HOPFIELD_KERNEL void sum(const float* in, int count, float* partial, uint32_t* tickets, float* out, Fault fault) {
  auto* tiles = shared_memory<float>();
  auto* scratch = tiles + 2 * kThreads;
  const int thread = thread_index();
  const float* mine = in + int64_t{block_index().x} * count;
  const auto fetch = [&](int tile) {
    const int at = tile * kThreads + thread;
    const int target = tile % 2 * kThreads + thread;
    if (at < count) copy_async_4(tiles + target, mine + at);
    commit_copies();
  };
  fetch(0);
  float sum = 0;
  for (int tile = 0; tile * kThreads < count; ++tile) {
    if (fault == Fault::kEarlyCopy) fetch(tile + 1);  // other threads may still read the tile that it overwrites
    wait_copies<0>();
    sync_threads();
    if (fault != Fault::kEarlyCopy) fetch(tile + 1);
    const int other = (thread + 33) % kThreads;
    if (tile * kThreads + other < count || fault == Fault::kUnmaskedTail) sum += tiles[tile % 2 * kThreads + other];
  }
  sum = block_sum(scratch, sum, fault);
  if (thread > 0) return;
  partial[block_index().x] = sum;
  const auto ticket = fault == Fault::kUnorderedBlocks ? atomic_add(tickets, 1u) : take_ticket(tickets);
  if (ticket + 1 < static_cast<uint32_t>(grid_size().x)) return;
  float total = 0;
  for (int i = 0; i < grid_size().x; ++i) total += partial[i];
  *out = total;
}

int run(Fault fault) {
  constexpr int kBlocks = 3;
  const int count = (fault == Fault::kUnmaskedTail ? 2 : 5) * kThreads - 28;
  const DeviceArray<float> in(static_cast<size_t>(kBlocks * count), 1.0f), partial(kBlocks, NAN), out(1, 0.0f);
  const DeviceArray<uint32_t> tickets(1, 0);
  const auto error = launch(sum, {{kBlocks, 1, 1}, kThreads, 3 * kThreads * sizeof(float)}, nullptr, in.data(), count,
                            partial.data(), tickets.data(), out.data(), fault);
  if (!error.empty()) {
    std::printf("%s\n", error.c_str());
    return 1;
  }
  const float found = out.download()[0];
  if (std::isnan(found)) {
    std::printf("the sum is NaN\n");
  } else {
    std::printf("the sum is %g, expected %d\n", static_cast<double>(found), kBlocks * count);
  }
  return found == static_cast<float>(kBlocks * count) ? 0 : 1;
}

}  // namespace
}  // namespace hopfield::kernels::cuda

int main(int argc, char** argv) {
  using hopfield::kernels::cuda::Fault;
  const std::pair<const char*, Fault> faults[] = {
      {"none", Fault::kNone},
      {"missing_barrier", Fault::kMissingBarrier},
      {"missing_warp_sync", Fault::kMissingWarpSync},
      {"wrong_index", Fault::kWrongIndex},
      {"unmasked_tail", Fault::kUnmaskedTail},
      {"early_copy", Fault::kEarlyCopy},
      {"unordered_blocks", Fault::kUnorderedBlocks},
  };
  for (const auto& [name, fault] : faults) {
    if (argc == 2 && name == std::string(argv[1])) return hopfield::kernels::cuda::run(fault);
  }
  return 2;
}
