// What the host runtime reports of kernels with errors.

#include "../../support/hardware_errors.h"
#include "harness.h"

#include <cuda_on_host/arithmetic.h>
#include <cuda_on_host/launch.h>
#include <gmock/gmock.h>
#include <kernels/cuda/async_copy.h>
#include <kernels/cuda/cluster.h>
#include <kernels/cuda/memory.h>
#include <kernels/cuda/mma.h>
#include <kernels/cuda/warp.h>

#include <atomic>
#include <cmath>
#include <stdexcept>

namespace hopfield::kernels::cuda {
namespace {

using ::testing::HasSubstr;

std::string run(void (*kernel)(), LaunchShape shape = {{1, 1, 1}, 64, 256}) { return launch(kernel, shape, nullptr); }

TEST(OnHost, ThreadThatEndsEarlyIsNamedInADeadlock) {
  const auto error = run([] {
    if (thread_index() >= 32) sync_threads();
  });
  EXPECT_THAT(error, HasSubstr("no thread can go on"));
  EXPECT_THAT(error, HasSubstr("32 threads have ended (the first is thread 0)"));
  EXPECT_THAT(error, HasSubstr("32 threads wait at sync_threads (the first is thread 32)"));
}

TEST(OnHost, DivergentWarpIsNamed) {
  const auto error = run([] {
    if (lane_index() < 16) {
      shuffle_xor(1.0f, 1);
    } else {
      ballot(true);
    }
  });
  EXPECT_THAT(error, HasSubstr("block (0, 0, 0), thread 16: some threads are at a shuffle and this one is at a vote"));
}

TEST(OnHost, LaneThatMissesAShuffleIsADeadlock) {
  EXPECT_THAT(run([] {
                if (lane_index() != 5) shuffle(1, 0);
              }),
              HasSubstr("62 threads wait at a shuffle"));
}

TEST(OnHost, BarrierForTheWrongNumberOfThreads) {
  EXPECT_THAT(run([] { sync_barrier(1, warp_index() == 0 ? 64 : 32); }), HasSubstr("for 64 threads and for 32"));
  EXPECT_THAT(run([] { sync_barrier(1, 96); }), HasSubstr("no thread can go on"));
  EXPECT_THAT(run([] { sync_barrier(0, 64); }), HasSubstr("number from 1 to 15"));
  EXPECT_THAT(run([] { sync_barrier(1, 40); }), HasSubstr("whole warps"));
}

TEST(OnHost, ExceptionNamesBlockAndThreadAndUnwindsTheOthers) {
  static std::atomic<int> alive;
  struct Guard {
    Guard() { ++alive; }
    ~Guard() { --alive; }
  };
  alive = 0;
  const auto error = run(
      [] {
        const Guard guard;
        sync_threads();
        if (block_index().y == 1 && thread_index() == 37) throw std::runtime_error("planted");
        sync_threads();
      },
      {{2, 2, 1}, 64});
  EXPECT_EQ(error, "block (0, 1, 0), thread 37: planted");
  EXPECT_EQ(alive, 0);
}

HOPFIELD_KERNEL void look_at_shared_memory(int* wrong) {
  for (int i = thread_index(); i < 64; i += block_size()) {
    if (!std::isnan(shared_memory<float>()[i])) atomic_add(wrong, 1);
  }
  sync_threads();
  shared_memory<float>()[thread_index()] = 1.0f;
}

TEST(OnHost, SharedMemoryHoldsNanWhenABlockBegins) {
  int wrong = 0;
  ASSERT_EQ(launch(look_at_shared_memory, {{3, 1, 1}, 64, 256}, nullptr, &wrong), "");
  EXPECT_EQ(wrong, 0);
}

HOPFIELD_KERNEL void note_order(int* places, int* count) {
  places[block_index().x * block_size() + thread_index()] = atomic_add(count, 1);
}

TEST(OnHost, SeedShufflesBlocksAndThreads) {
  const auto order = [](uint64_t seed) {
    const auto before = cuda_on_host::set_order(seed);
    std::vector<int> places(16 * 32);
    int count = 0;
    EXPECT_EQ(launch(note_order, {{16, 1, 1}, 32}, nullptr, places.data(), &count), "");
    cuda_on_host::set_order(before);
    return places;
  };
  std::vector<int> natural(16 * 32);
  for (size_t i = 0; i < natural.size(); ++i) natural[i] = static_cast<int>(i);
  EXPECT_EQ(order(0), natural);
  EXPECT_NE(order(1), natural);
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
}

HOPFIELD_KERNEL void read_before_waiting(const float* in, float* out) {
  auto* shared = shared_memory<float>();
  shared[4 * thread_index()] = 5.0f;
  copy_async_16(shared + 4 * thread_index(), in + 4 * thread_index());
  commit_copies();
  copy_async_16(shared + 4 * (block_size() + thread_index()), in);
  commit_copies();
  out[3 * thread_index()] = shared[4 * thread_index()];
  wait_copies<1>();
  out[3 * thread_index() + 1] = shared[4 * thread_index()];
  out[3 * thread_index() + 2] = shared[4 * (block_size() + thread_index())];
}

TEST(OnHost, AsyncCopyIsNotThereBeforeItIsWaitedFor) {
  const auto values = random_floats(128, 1);
  const DeviceArray<float> in(values), out(96, 0.0f);
  ASSERT_EQ(launch(read_before_waiting, {{1, 1, 1}, 32, 1024}, nullptr, in.data(), out.data()), "");
  const auto found = out.download();
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_TRUE(std::isnan(found[3 * i]));
    EXPECT_EQ(found[3 * i + 1], values[4 * i]);
    EXPECT_TRUE(std::isnan(found[3 * i + 2]));
  }
}

TEST(OnHost, WrongUseOfAsyncCopies) {
  EXPECT_THAT(run([] { copy_async_16(shared_memory() + 8, nullptr, 0); }), HasSubstr("aligned"));
  EXPECT_THAT(run([] { copy_async_16(shared_memory() + 256, nullptr, 0); }),
              HasSubstr("shared memory of the calling block"));
  EXPECT_THAT(run([] { copy_async_4(shared_memory(), nullptr, 5); }), HasSubstr("cannot read more"));
}

TEST(OnHost, WrongUseOfMemoryBarriers) {
  EXPECT_THAT(run([] { wait(shared_memory<MemoryBarrier>(), 0); }), HasSubstr("before it was initialised"));
  EXPECT_THAT(run([] {
                auto* barrier = shared_memory<MemoryBarrier>();
                if (thread_index() > 0) return;
                init_memory_barrier(barrier, 1);
                arrive_expecting(barrier, 16);
                wait(barrier, 0);
              }),
              HasSubstr("1 threads wait at a memory barrier"));
  EXPECT_THAT(run([] {
                auto* barrier = shared_memory<MemoryBarrier>();
                alignas(16) static float source[4];
                if (thread_index() > 0) return;
                init_memory_barrier(barrier, 1);
                arrive_expecting(barrier, 16);
                copy_bulk(shared_memory() + 16, source, 16, barrier);
              }),
              HasSubstr("the block has ended while a bulk copy was under way"));
}

HOPFIELD_KERNEL void read_bulk_too_early(const float* in, float* out) {
  auto* barrier = shared_memory<MemoryBarrier>();
  auto* target = shared_memory<float>(16);
  if (thread_index() == 0) {
    target[1] = 5.0f;
    init_memory_barrier(barrier, 1);
    copy_bulk(target, in, 16, barrier);
    arrive_expecting(barrier, 16);
    out[0] = target[1];
    wait(barrier, 0);
    out[1] = target[1];
  }
}

TEST(OnHost, BulkCopyIsNotThereBeforeItIsWaitedFor) {
  const DeviceArray<float> in({1.0f, 2.0f, 3.0f, 4.0f}), out(2, 0.0f);
  ASSERT_EQ(launch(read_bulk_too_early, {{1, 1, 1}, 32, 32}, nullptr, in.data(), out.data()), "");
  EXPECT_TRUE(std::isnan(out.download()[0]));
  EXPECT_EQ(out.download()[1], 2.0f);
}

TEST(OnHost, WrongUseOfMatrices) {
  EXPECT_THAT(run([] {
                uint32_t registers[1];
                ldmatrix<1>(registers, shared_memory() + 4 * lane_index());
              }),
              HasSubstr("multiple of 16 bytes"));
  EXPECT_THAT(run([] {
                alignas(16) static uint32_t words[4];
                uint32_t registers[1];
                ldmatrix<1>(registers, words);
              }),
              HasSubstr("shared memory of the calling block"));
}

TEST(OnHost, WrongUseOfClusters) {
  EXPECT_THAT(run([] { peer_shared(shared_memory(), 1); }), HasSubstr("no block of this rank"));
  EXPECT_THAT(run(
                  [] {
                    if (cluster_rank() == 0) cluster_sync();
                  },
                  {{2, 1, 1}, 32, 0, 2}),
              HasSubstr("block (1, 0, 0): 32 threads have ended"));
}

HOPFIELD_KERNEL void wait_for_rank_1(uint32_t* flag, bool written) {
  if (cluster_rank() == 0) {
    while (load_fresh(flag) == 0) {
    }
  } else if (written) {
    store_fresh(flag, 1u);
  }
}

TEST(OnHost, SpinningEndsWhenAnotherThreadWritesAndFailsWhenNoneWill) {
  const DeviceArray<uint32_t> flags(2, 0);
  EXPECT_EQ(launch(wait_for_rank_1, {{2, 1, 1}, 32, 0, 2}, nullptr, flags.data(), true), "");
  EXPECT_THAT(launch(wait_for_rank_1, {{2, 1, 1}, 32, 0, 2}, nullptr, flags.data() + 1, false),
              HasSubstr("block (0, 0, 0), thread 0: waits for what no running block writes"));
}

TEST(OnHost, FailedCheckNamesBlockAndThread) {
  EXPECT_EQ(run([] { check(thread_index() != 40, "the fortieth thread"); }),
            "block (0, 0, 0), thread 40: the fortieth thread");
}

HOPFIELD_KERNEL void read_from_a_peer(float* out, bool wait) {
  if (thread_index() == 0) *shared_memory<float>() = 1.0f;
  cluster_sync();
  if (cluster_rank() == 1 && thread_index() == 0) *out = *peer_shared(shared_memory<float>(), 0);
  if (wait) cluster_sync();
}

TEST(OnHost, SharedMemoryOfAPeerThatHasEndedHoldsNan) {
  const DeviceArray<float> out(1, 0.0f);
  ASSERT_EQ(launch(read_from_a_peer, {{2, 1, 1}, 32, 4, 2}, nullptr, out.data(), true), "");
  EXPECT_EQ(out.download()[0], 1.0f);
  ASSERT_EQ(launch(read_from_a_peer, {{2, 1, 1}, 32, 4, 2}, nullptr, out.data(), false), "");
  EXPECT_TRUE(std::isnan(out.download()[0]));
}

/// Lets a test have the device's arithmetic.
struct AsOnADevice {
  cuda_on_host::Arithmetic before = cuda_on_host::set_arithmetic(cuda_on_host::Arithmetic::device);
  ~AsOnADevice() { cuda_on_host::set_arithmetic(before); }
};

TEST(OnHost, FunctionsOfADeviceAreOffByWhatIsDocumented) {
  const AsOnADevice as_on_a_device;
  double of_exp2 = 0, of_log2 = 0, of_rsqrt = 0;
  for (const float x : random_floats(1000, 1)) {
    const double power = std::exp2(static_cast<double>(x)), logarithm = std::log2(std::abs(static_cast<double>(x))),
                 root = std::sqrt(std::abs(static_cast<double>(x)));
    of_exp2 = std::max(of_exp2, std::abs(fast_exp2(x) / power - 1));
    of_log2 = std::max(of_log2, std::abs(fast_log2(std::abs(x)) - logarithm) / std::max(1.0, std::abs(logarithm)));
    of_rsqrt = std::max(of_rsqrt, std::abs(fast_rsqrt(std::abs(x)) * root - 1));
  }
  for (const auto& [found, largest] : {std::pair{of_exp2, hopfield::testing::kExp2Error},
                                       {of_log2, hopfield::testing::kLog2Error},
                                       {of_rsqrt, hopfield::testing::kRsqrtError}}) {
    EXPECT_LE(found, largest);
    EXPECT_GT(found, 0.9 * largest);
  }
  EXPECT_EQ(fast_exp2(0.0f), 1.0f);
  EXPECT_EQ(fast_exp2(-130.0f), 0.0f) << "a number too small to be normal";
}

/// c + 16 products a b, for c in all lanes.
HOPFIELD_KERNEL void add_products(float a, float b, float* c) {
  const uint32_t left = pack_pair<bfloat16_t>(a, a), right = pack_pair<bfloat16_t>(b, b);
  float sums[4] = {*c, *c, *c, *c};
  mma_m16n8k16<bfloat16_t>(sums, {left, left, left, left}, {right, right});
  sync_warp();
  if (lane_index() == 0) *c = sums[0];
}

TEST(OnHost, ProductsOfADeviceAreCutOff) {
  const auto sum = [](float c, float a, float b) {
    const DeviceArray<float> sums(1, c);
    EXPECT_EQ(launch(add_products, {{1, 1, 1}, 32}, nullptr, a, b, sums.data()), "");
    return sums.download()[0];
  };
  const float a = 0x1.8p-12f, b = 0x1p-12f;  // beside 1, a b is one and a half of the last digit that is kept
  const auto before = cuda_on_host::set_arithmetic(cuda_on_host::Arithmetic::exact);
  EXPECT_EQ(sum(1.0f, a, b), 1.0f + 0x1p-19f);  // to the nearest float, 16 times
  cuda_on_host::set_arithmetic(cuda_on_host::Arithmetic::device);
  EXPECT_EQ(sum(1.0f, a, b), 1.0f + 0x1p-20f);
  EXPECT_EQ(sum(-1.0f, -a, b), -1.0f - 0x1p-20f);
  EXPECT_EQ(sum(0.0f, 3.0f, 5.0f), 240.0f);
  EXPECT_EQ(sum(0.0f, HUGE_VALF, 1.0f), HUGE_VALF);
  EXPECT_TRUE(std::isnan(sum(0.0f, HUGE_VALF, 0.0f)));
  cuda_on_host::set_arithmetic(before);
}

TEST(OnHost, MisalignedPackIsRefused) {
  EXPECT_THAT(run([] { load_pack(shared_memory<float>() + 1); }), HasSubstr("multiple of 16 bytes"));
}

}  // namespace
}  // namespace hopfield::kernels::cuda
