#include <gtest/gtest.h>
#include <kernels/cuda/remembered.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace hopfield::kernels::cuda {
namespace {

TEST(Remembered, ThreadsShareOneAnswerForEachKey) {
  constexpr size_t kKeys = 300, kRounds = 4;
  Remembered<size_t, std::string> remembered;
  std::array<std::atomic<int>, kKeys> asked{};
  const auto work = [&] {
    for (size_t i = 0; i < kRounds * kKeys; ++i) {
      const auto key = i % kKeys;
      const auto answer = remembered.get(key, [&] {
        ++asked[key];
        return Answer<std::string>{std::to_string(key), true};
      });
      EXPECT_EQ(answer, std::to_string(key));
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (auto& thread : threads) thread.join();
  for (const auto& times : asked) EXPECT_EQ(times, 1);
}

TEST(Remembered, AnAnswerThatDoesNotLastIsAskedForAgain) {
  Remembered<int, int> remembered;
  int asked = 0;
  const auto ask = [&] { return Answer<int>{++asked, asked == 3}; };
  for (const int expected : {1, 2, 3, 3}) EXPECT_EQ(remembered.get(7, ask), expected);
  EXPECT_EQ(remembered.get(8, ask), 4);
}

}  // namespace
}  // namespace hopfield::kernels::cuda
