#include "harness.h"

#include <kernels/cuda/async_copy.h>

#include <cmath>

namespace hopfield::kernels::cuda {
namespace {

/// A ring of `stages` tiles that is filled ahead. In each tile a thread has 16 bytes.
HOPFIELD_KERNEL void sum_through_a_ring(const float* in, float* out, int tiles) {
  constexpr int kStages = 3;
  auto* ring = shared_memory<float>();
  const int thread = thread_index(), tile_size = 4 * block_size();
  const auto fetch = [&](int tile) {
    if (tile < tiles) {
      copy_async_16(ring + tile % kStages * tile_size + 4 * thread, in + tile * tile_size + 4 * thread);
    }
    commit_copies();
  };
  for (int tile = 0; tile < kStages - 1; ++tile) fetch(tile);
  float sum = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    wait_copies<kStages - 2>();
    sync_threads();
    fetch(tile + kStages - 1);
    const float* stage = ring + tile % kStages * tile_size;
    for (int i = 0; i < 4; ++i) sum += stage[(4 * thread + 5 + i) % tile_size];  // copied by other threads
  }
  out[thread] = sum;
}

TEST_F(Cuda, RingOfAsyncCopies) {
  constexpr size_t kThreads = 64, kTile = 4 * kThreads, kTiles = 9;
  const auto values = random_floats(kTile * kTiles, 1);
  const DeviceArray<float> in(values), out(kThreads, NAN);
  ASSERT_EQ(launch(sum_through_a_ring, {{1, 1, 1}, kThreads, 3 * kTile * sizeof(float)}, nullptr, in.data(), out.data(),
                   static_cast<int>(kTiles)),
            "");
  const auto found = out.download();
  for (size_t thread = 0; thread < kThreads; ++thread) {
    float sum = 0;
    for (size_t tile = 0; tile < kTiles; ++tile) {
      for (size_t i = 0; i < 4; ++i) sum += values[tile * kTile + (4 * thread + 5 + i) % kTile];
    }
    EXPECT_EQ(found[thread], sum);
  }
}

HOPFIELD_KERNEL void copy_with_zeros(const float* in, float* out, int count) {
  auto* shared = shared_memory<float>();
  const int thread = thread_index(), valid = count - 4 * thread;
  copy_async_16(shared + 4 * thread, in + 4 * thread, valid >= 4 ? 16 : valid > 0 ? 4 * valid : 0);
  float* single = shared + 4 * block_size();
  copy_async_4(single + thread, in + thread, thread < count ? 4 : 0);
  commit_copies();
  wait_copies<0>();
  for (int i = 0; i < 4; ++i) out[5 * thread + i] = shared[4 * thread + i];
  out[5 * thread + 4] = single[thread];
}

TEST_F(Cuda, BytesBeyondTheSourceBecomeZero) {
  constexpr size_t kCount = 22;
  const auto values = random_floats(kCount, 2);
  const DeviceArray<float> in(values), out(5 * 32, NAN);
  ASSERT_EQ(launch(copy_with_zeros, {{1, 1, 1}, 32, 5 * 32 * sizeof(float)}, nullptr, in.data(), out.data(),
                   static_cast<int>(kCount)),
            "");
  const auto found = out.download();
  for (size_t thread = 0; thread < 32; ++thread) {
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(found[5 * thread + i], 4 * thread + i < kCount ? values[4 * thread + i] : 0.0f);
    }
    EXPECT_EQ(found[5 * thread + 4], thread < kCount ? values[thread] : 0.0f);
  }
}

/// Warp 0 copies tiles into a ring of two stages, and the other warps add them up. Memory barriers tell when a stage is
/// full, and when it is empty again.
HOPFIELD_KERNEL void sum_through_bulk_copies(const float* in, float* out, int tiles) {
  constexpr int kStages = 2, kTile = 128;
  auto* ring = shared_memory<float>();
  auto* full = shared_memory<MemoryBarrier>(kStages * kTile * static_cast<int>(sizeof(float)));
  auto* empty = full + kStages;
  const int consumers = block_size() - 32;
  if (thread_index() == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      init_memory_barrier(full + stage, 1);
      init_memory_barrier(empty + stage, consumers);
    }
    fence_memory_barriers();
  }
  sync_threads();
  if (warp_index() == 0) {
    if (lane_index() > 0) return;
    for (int tile = 0; tile < tiles; ++tile) {
      const int stage = tile % kStages, round = tile / kStages;
      if (round > 0) wait(empty + stage, (round - 1) % 2);
      arrive_expecting(full + stage, kTile * sizeof(float));
      copy_bulk(ring + stage * kTile, in + tile * kTile, kTile / 2 * sizeof(float), full + stage);
      copy_bulk(ring + stage * kTile + kTile / 2, in + tile * kTile + kTile / 2, kTile / 2 * sizeof(float),
                full + stage);
    }
  } else {
    const int thread = thread_index() - 32;
    float sum = 0;
    for (int tile = 0; tile < tiles; ++tile) {
      const int stage = tile % kStages, round = tile / kStages;
      wait(full + stage, round % 2);
      for (int i = thread; i < kTile; i += consumers) sum += ring[stage * kTile + i];
      arrive(empty + stage);
    }
    out[thread] = sum;
  }
}

TEST_F(CudaHopper, RingOfBulkCopies) {
  constexpr size_t kTile = 128, kTiles = 7, kConsumers = 64;
  const auto values = random_floats(kTile * kTiles, 3);
  const DeviceArray<float> in(values), out(kConsumers, NAN);
  const size_t shared = 2 * kTile * sizeof(float) + 4 * sizeof(MemoryBarrier);
  ASSERT_EQ(launch(sum_through_bulk_copies, {{1, 1, 1}, 96, shared}, nullptr, in.data(), out.data(),
                   static_cast<int>(kTiles)),
            "");
  const auto found = out.download();
  for (size_t thread = 0; thread < kConsumers; ++thread) {
    float sum = 0;
    for (size_t i = thread; i < values.size(); i += kConsumers) sum += values[i];
    EXPECT_EQ(found[thread], sum);
  }
}

/// A memory barrier that counts arrivals and no bytes, of half of the threads, phase after phase.
HOPFIELD_KERNEL void count_phases(int* out) {
  auto* barrier = shared_memory<MemoryBarrier>();
  auto* counter = shared_memory<int>(sizeof(MemoryBarrier));
  const int thread = thread_index();
  if (thread == 0) {
    init_memory_barrier(barrier, 32);
    *counter = 0;
    fence_memory_barriers();
  }
  sync_threads();
  wait(barrier, 1);  // the phase before the first is over
  sync_threads();
  for (int phase = 0; phase < 5; ++phase) {
    if (phase % 2 == warp_index()) {
      if (lane_index() == 0) ++*counter;
      arrive(barrier);
    }
    wait(barrier, phase % 2);
    out[block_size() * phase + thread] = *counter;
    sync_threads();
  }
}

TEST_F(CudaHopper, PhasesOfAMemoryBarrier) {
  const DeviceArray<int> out(5 * 64, -1);
  ASSERT_EQ(launch(count_phases, {{1, 1, 1}, 64, sizeof(MemoryBarrier) + sizeof(int)}, nullptr, out.data()), "");
  const auto found = out.download();
  for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], static_cast<int>(i / 64 + 1));
}

}  // namespace
}  // namespace hopfield::kernels::cuda
