#include "harness.h"

#include <kernels/cuda/warp.h>

namespace hopfield::kernels::cuda {
namespace {

constexpr int kResults = 6;

template <class T>
HOPFIELD_KERNEL void shuffle_all(const T* in, T* out) {
  const T mine = in[thread_index()];
  T* results = out + kResults * thread_index();
  results[0] = shuffle_xor(mine, 5);
  results[1] = shuffle_xor(mine, 16);
  results[2] = shuffle(mine, 9);
  results[3] = shuffle(mine, (lane_index() * 7 + 3) % 32);
  results[4] = shuffle_down(mine, 1);
  results[5] = shuffle_down(mine, 20);
}

template <class T>
void check_shuffles(const std::vector<T>& values) {
  const DeviceArray<T> in(values), out(kResults * values.size(), T{});
  ASSERT_EQ(launch(shuffle_all<T>, {{1, 1, 1}, static_cast<int64_t>(values.size())}, nullptr, in.data(), out.data()),
            "");
  const auto found = out.download();
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t lane = i % 32;
    const auto of = [&](size_t source) { return values[i - lane + source]; };
    const std::vector<T> expected{of(lane ^ 5),
                                  of(lane ^ 16),
                                  of(9),
                                  of((lane * 7 + 3) % 32),
                                  of(lane < 31 ? lane + 1 : 31),
                                  of(lane < 12 ? lane + 20 : lane)};
    for (size_t k = 0; k < expected.size(); ++k) EXPECT_EQ(found[kResults * i + k], expected[k]) << i << ", " << k;
  }
}

TEST_F(Cuda, ShufflesOfFloats) { check_shuffles(random_floats(64, 1)); }

TEST_F(Cuda, ShufflesOfIntegers) {
  std::mt19937 random(2);
  std::vector<int> values(64);
  std::vector<uint32_t> unsigned_values(64);
  for (auto& value : values) value = static_cast<int>(random());
  for (auto& value : unsigned_values) value = static_cast<uint32_t>(random());
  check_shuffles(values);
  check_shuffles(unsigned_values);
}

HOPFIELD_KERNEL void vote(const int* in, uint32_t* out) {
  const bool mine = in[thread_index()] != 0;
  uint32_t* results = out + 3 * thread_index();
  results[0] = ballot(mine);
  results[1] = any(mine);
  results[2] = all(mine);
}

TEST_F(Cuda, Votes) {
  std::vector<int> votes(128, 0);  // none, one, some, all
  votes[32 + 17] = 1;
  for (size_t i = 0; i < 32; ++i) votes[64 + i] = i % 3 == 0, votes[96 + i] = 1;
  const DeviceArray<int> in(votes);
  const DeviceArray<uint32_t> out(3 * votes.size(), 77);
  ASSERT_EQ(launch(vote, {{1, 1, 1}, 128}, nullptr, in.data(), out.data()), "");
  const auto found = out.download();
  for (size_t i = 0; i < votes.size(); ++i) {
    uint32_t ballots = 0;
    for (size_t lane = 0; lane < 32; ++lane) ballots |= static_cast<uint32_t>(votes[i / 32 * 32 + lane]) << lane;
    EXPECT_EQ(found[3 * i], ballots);
    EXPECT_EQ(found[3 * i + 1], ballots != 0);
    EXPECT_EQ(found[3 * i + 2], ballots == 0xFFFFFFFFu);
  }
}

/// Sums over rows, as a softmax needs them, in a kernel whose warps take different branches.
HOPFIELD_KERNEL void sum_in_half_of_the_warps(const float* in, float* out) {
  float sum = in[thread_index()];
  if (warp_index() % 2 == 0) {
    for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  }
  out[thread_index()] = sum;
}

TEST_F(Cuda, WarpsShuffleIndependently) {
  std::vector<float> values(128);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const DeviceArray<float> in(values), out(values.size(), 0.0f);
  ASSERT_EQ(launch(sum_in_half_of_the_warps, {{1, 1, 1}, 128}, nullptr, in.data(), out.data()), "");
  const auto found = out.download();
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t warp = i / 32;
    EXPECT_EQ(found[i], warp % 2 == 0 ? static_cast<float>(32 * 32 * warp + 31 * 16) : values[i]);
  }
}

}  // namespace
}  // namespace hopfield::kernels::cuda
