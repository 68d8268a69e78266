#include "harness.h"

#include <kernels/cuda/memory.h>

#include <cmath>
#include <numeric>

#if !defined(__CUDACC__)
#include <cuda_on_host/launch.h>
#endif

namespace hopfield::kernels::cuda {
namespace {

template <class T>
HOPFIELD_KERNEL void copy_packs(const T* in, T* out, int count) {
  constexpr int kSize = Pack<T>::kSize;
  const int i = thread_index() * kSize;
  store_pack(out + i, load_pack(in + i));
  store_pack(out + count + i, load_constant(in + i));
  auto pack = load_streaming(in + i);
  pack[0] = pack[kSize - 1];
  store_streaming(out + 2 * count + i, pack);
}

template <class T>
void check_packs() {
  constexpr size_t kSize = 16 / sizeof(T), kCount = 32 * kSize;
  std::vector<T> values(kCount);
  std::iota(values.begin(), values.end(), T{1});
  const DeviceArray<T> in(values), out(3 * kCount, T{});
  ASSERT_EQ(launch(copy_packs<T>, {{1, 1, 1}, 32}, nullptr, in.data(), out.data(), static_cast<int>(kCount)), "");
  const auto found = out.download();
  for (size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(found[i], values[i]);
    EXPECT_EQ(found[kCount + i], values[i]);
    EXPECT_EQ(found[2 * kCount + i], values[i % kSize == 0 ? i + kSize - 1 : i]);
  }
}

TEST_F(Cuda, SixteenBytesAtOnce) {
  check_packs<float>();
  check_packs<uint16_t>();
  check_packs<double>();
}

HOPFIELD_KERNEL void count(uint32_t* words, int* integers, float* floats) {
  auto* in_block = shared_memory<float>();
  if (thread_index() == 0) *in_block = 0;
  sync_threads();
  atomic_add(words, 1u);
  atomic_add(integers, -2);
  atomic_add(floats, 0.5f);
  atomic_add(in_block, 1.0f);
  sync_threads();
  if (thread_index() == 0) atomic_add(floats + 1, *in_block);
}

TEST_F(Cuda, AtomicAdd) {
  const DeviceArray<uint32_t> words(1, 5);
  const DeviceArray<int> integers(1, 5);
  const DeviceArray<float> floats(2, 0.0f);
  ASSERT_EQ(launch(count, {{3, 1, 1}, 64, sizeof(float)}, nullptr, words.data(), integers.data(), floats.data()), "");
  EXPECT_EQ(words.download()[0], 5u + 192u);
  EXPECT_EQ(integers.download()[0], 5 - 2 * 192);
  EXPECT_EQ(floats.download(), (std::vector<float>{96.0f, 192.0f}));
}

HOPFIELD_KERNEL void find_largest(uint32_t* words) {
  atomic_max(words, static_cast<uint32_t>((block_index().x * 64 + thread_index()) * 37 % 192));
  atomic_max(words + 1, 3u);
}

TEST_F(Cuda, AtomicMax) {
  const DeviceArray<uint32_t> words(2, 7);
  ASSERT_EQ(launch(find_largest, {{3, 1, 1}, 64}, nullptr, words.data()), "");
  EXPECT_EQ(words.download(), (std::vector<uint32_t>{191, 7}));
}

/// Every block writes a partial sum of each column. The block that ends last adds them up in the order of blocks.
HOPFIELD_KERNEL void merge_by_the_last(const float* in, float* partial, uint32_t* tickets, float* sum) {
  auto* last = shared_memory<int>();
  const int thread = thread_index(), threads = block_size(), block = block_index().x, blocks = grid_size().x;
  float mine = 0;
  for (int row = 0; row < 4; ++row) mine += in[(4 * block + row) * threads + thread];
  partial[block * threads + thread] = mine;
  thread_fence();
  sync_threads();
  if (thread == 0) *last = take_ticket(tickets) == static_cast<uint32_t>(blocks - 1);
  sync_threads();
  if (!*last) return;
  float total = 0;
  for (int i = 0; i < blocks; ++i) total += load_fresh(partial + i * threads + thread);
  sum[thread] = total;
  if (thread == 0) store_fresh(tickets, 0u);  // ready for the next launch
}

TEST_F(Cuda, TheLastBlockMergesInOrder) {
  constexpr size_t kThreads = 64, kBlocks = 13;
  const auto values = random_floats(kThreads * kBlocks * 4, 3);
  std::vector<float> expected(kThreads, 0.0f);
  for (size_t thread = 0; thread < kThreads; ++thread) {
    for (size_t block = 0; block < kBlocks; ++block) {
      float mine = 0;
      for (size_t row = 0; row < 4; ++row) mine += values[(4 * block + row) * kThreads + thread];
      expected[thread] += mine;
    }
  }
  const DeviceArray<float> in(values), partial(kThreads * kBlocks, NAN), sum(kThreads, NAN);
  const DeviceArray<uint32_t> tickets(1, 0);
#if !defined(__CUDACC__)
  const auto order = cuda_on_host::set_order(0);
#endif
  for (uint64_t seed = 0; seed < 5; ++seed) {
#if !defined(__CUDACC__)
    cuda_on_host::set_order(seed);
#endif
    ASSERT_EQ(launch(merge_by_the_last, {{kBlocks, 1, 1}, kThreads, sizeof(int)}, nullptr, in.data(), partial.data(),
                     tickets.data(), sum.data()),
              "");
    EXPECT_EQ(sum.download(), expected);
  }
#if !defined(__CUDACC__)
  cuda_on_host::set_order(order);
#endif
}

}  // namespace
}  // namespace hopfield::kernels::cuda
