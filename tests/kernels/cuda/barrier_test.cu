#include "harness.h"

#include <kernels/cuda/device.h>
#include <kernels/cuda/warp.h>

namespace hopfield::kernels::cuda {
namespace {

HOPFIELD_KERNEL void write_indices(int* out) {
  const auto block = block_index();
  const auto grid = grid_size();
  const int linear = (block.z * grid.y + block.y) * grid.x + block.x;
  int* mine = out + 4 * (linear * block_size() + thread_index());
  mine[0] = block.x, mine[1] = block.y, mine[2] = block.z, mine[3] = 100 * warp_index() + lane_index();
}

TEST_F(Cuda, EveryThreadOfEveryBlockRunsOnce) {
  const DeviceArray<int> out(static_cast<size_t>(4 * 3 * 2 * 2 * 64), -1);
  ASSERT_EQ(launch(write_indices, {{3, 2, 2}, 64}, nullptr, out.data()), "");
  const auto found = out.download();
  size_t at = 0;
  for (int z = 0; z < 2; ++z) {
    for (int y = 0; y < 2; ++y) {
      for (int x = 0; x < 3; ++x) {
        for (int thread = 0; thread < 64; ++thread, at += 4) {
          EXPECT_EQ(found[at], x);
          EXPECT_EQ(found[at + 1], y);
          EXPECT_EQ(found[at + 2], z);
          EXPECT_EQ(found[at + 3], 100 * (thread / 32) + thread % 32);
        }
      }
    }
  }
}

/// Every thread passes its number to its left neighbour, round after round.
HOPFIELD_KERNEL void rotate(const float* in, float* out, int rounds) {
  auto* shared = shared_memory<float>();
  const int thread = thread_index(), threads = block_size();
  float mine = in[block_index().x * threads + thread];
  for (int round = 0; round < rounds; ++round) {
    shared[thread] = mine;
    sync_threads();
    mine = shared[(thread + 1) % threads];
    sync_threads();
  }
  out[block_index().x * threads + thread] = mine;
}

TEST_F(Cuda, SyncThreadsOrdersSharedMemory) {
  constexpr int kThreads = 128, kBlocks = 2, kRounds = 50;
  const auto values = random_floats(kThreads * kBlocks, 1);
  const DeviceArray<float> in(values), out(values.size(), 0.0f);
  ASSERT_EQ(
      launch(rotate, {{kBlocks, 1, 1}, kThreads, kThreads * sizeof(float)}, nullptr, in.data(), out.data(), kRounds),
      "");
  const auto found = out.download();
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(found[i], values[i / kThreads * kThreads + (i % kThreads + kRounds) % kThreads]);
  }
}

/// Warp 0 fills a buffer, and the other warps add it up in turn. `full` and `empty` are named barriers.
HOPFIELD_KERNEL void produce_and_consume(const float* in, float* out, int rounds) {
  constexpr int kFull = 1, kEmpty = 2;
  auto* buffer = shared_memory<float>();
  const int lane = lane_index();
  if (warp_index() == 0) {
    for (int round = 0; round < rounds; ++round) {
      if (round > 0) sync_barrier(kEmpty, block_size());
      buffer[lane] = in[32 * round + lane];
      arrive_barrier(kFull, block_size());
    }
  } else {
    float sum = 0;
    for (int round = 0; round < rounds; ++round) {
      sync_barrier(kFull, block_size());
      sum += buffer[lane];
      if (round + 1 < rounds) arrive_barrier(kEmpty, block_size());
    }
    out[thread_index() - 32] = sum;
  }
}

TEST_F(Cuda, NamedBarriersHandABufferBackAndForth) {
  constexpr int kRounds = 7;
  const auto values = random_floats(32 * kRounds, 2);
  const DeviceArray<float> in(values), out(96, -1.0f);
  ASSERT_EQ(launch(produce_and_consume, {{1, 1, 1}, 128, 32 * sizeof(float)}, nullptr, in.data(), out.data(), kRounds),
            "");
  const auto found = out.download();
  for (size_t i = 0; i < found.size(); ++i) {
    float sum = 0;
    for (size_t round = 0; round < kRounds; ++round) sum += values[32 * round + i % 32];
    EXPECT_EQ(found[i], sum);
  }
}

/// Each warp reverses its 32 numbers in its own part of shared memory.
HOPFIELD_KERNEL void reverse_in_warp(const int* in, int* out) {
  auto* mine = shared_memory<int>(32 * warp_index() * static_cast<int>(sizeof(int)));
  mine[lane_index()] = in[thread_index()];
  sync_warp();
  out[thread_index()] = mine[31 - lane_index()];
}

TEST_F(Cuda, SyncWarpOrdersSharedMemory) {
  std::vector<int> values(96);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int>(i * i);
  const DeviceArray<int> in(values), out(values.size(), -1);
  ASSERT_EQ(launch(reverse_in_warp, {{1, 1, 1}, 96, 96 * sizeof(int)}, nullptr, in.data(), out.data()), "");
  const auto found = out.download();
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(found[i], values[i / 32 * 32 + 31 - i % 32]);
}

TEST_F(Cuda, LaunchesThatNoDeviceCanRunAreRefused) {
  const DeviceArray<int> out(1, 0);
  EXPECT_NE(launch(write_indices, {{1, 1, 1}, 2048}, nullptr, out.data()), "");
  EXPECT_NE(launch(write_indices, {{1, 1, 1}, 32, size_t{1} << 20}, nullptr, out.data()), "");
  EXPECT_NE(launch(write_indices, {{0, 1, 1}, 32}, nullptr, out.data()), "");
  EXPECT_NE(launch(write_indices, {{1, 70000, 1}, 32}, nullptr, out.data()), "");
}

}  // namespace
}  // namespace hopfield::kernels::cuda
