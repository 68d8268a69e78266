#include "memory/sweeps.h"

#include <ATen/ATen.h>
#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace hopfield::memory::detail {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Sweeps, RandomOrdersArePermutationsOfEqualProbability) {
  std::vector<int> counts(6, 0);  // of the permutations of three neurons
  constexpr int kSweeps = 6000;
  for (int64_t step = 0; step < kSweeps; ++step) {
    const auto order = draw_sweep(RecallOptions().seed(3).settings(), 3, step).order;
    auto sorted = order;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_THAT(sorted, ElementsAre(0, 1, 2));
    ++counts[2 * order[0] + (order[1] > order[2] ? 1 : 0)];
  }
  for (const auto count : counts) EXPECT_NEAR(count, kSweeps / 6, 4 * std::sqrt(kSweeps * 5 / 36.0));
  const auto order = [](uint64_t seed, int64_t step) {
    return draw_sweep(RecallOptions().seed(seed).settings(), 50, step).order;
  };
  EXPECT_EQ(order(1, 2), order(1, 2));
  EXPECT_NE(order(1, 2), order(1, 3));
  EXPECT_NE(order(1, 2), order(2, 2));
  EXPECT_NE(order(1, 2), order(1 + (uint64_t{1} << 32), 2));
  EXPECT_THAT(draw_sweep(RecallOptions().order(Order::fixed).settings(), 3, 0).order, ElementsAre(0, 1, 2));
  EXPECT_THAT(draw_sweep(RecallOptions().update(Update::synchronous).settings(), 3, 0).order, IsEmpty());
}

TEST(Sweeps, FieldsExceedThresholdsByGlaubersProbabilities) {
  constexpr int64_t kNeurons = 40000;
  EXPECT_THAT(draw_sweep({}, 10, 0).thresholds, Each(0.0));
  for (const double temperature : {0.2, 3.0}) {
    const auto settings = RecallOptions().temperature(temperature).settings();
    const auto thresholds = draw_sweep(settings, kNeurons, 5).thresholds;
    for (const double field : {-0.5, 0.0, 0.1, 1.0}) {
      const auto below =
          std::count_if(thresholds.begin(), thresholds.end(), [&](double value) { return value < field; });
      const auto expected = 1.0 / (1.0 + std::exp(-2 * field / temperature));
      EXPECT_NEAR(static_cast<double>(below) / kNeurons, expected, 4 * std::sqrt(expected * (1 - expected) / kNeurons));
    }
  }
}

TEST(Sweeps, EachQueryStopsByItself) {
  // Query 0 is settled, query 1 changes for two more sweeps, queries 2 and 3 alternate for ever.
  const auto run = [](Update update, int64_t steps_max) {
    const auto states = torch::tensor({{1.0}, {5.0}, {1.0}, {-1.0}});
    std::vector<int64_t> visits(4, 0);
    const auto settings = RecallOptions().update(update).update_steps_max(steps_max).update_steps_cap(9).settings();
    return make_sweeps(states, settings, [&](const Sweep&, const at::Tensor& active) {
      auto changed = at::zeros_like(active);
      for (int64_t i = 0; i < active.numel(); ++i) {
        const auto query = active[i].item<int64_t>();
        const auto visit = visits[query]++;
        if (query == 0 || (query == 1 && visit >= 2)) continue;
        changed[i] = 1;
        if (query == 1) states[query] += 1;
        if (query >= 2) states[query].neg_();
      }
      return changed;
    });
  };
  const auto one_by_one = run(Update::asynchronous, kUntilConverged);
  EXPECT_TRUE(one_by_one.steps.equal(torch::tensor({1, 3, 9, 9}))) << one_by_one.steps;
  EXPECT_TRUE(one_by_one.period.equal(torch::tensor({1, 1, 0, 0}))) << one_by_one.period;
  EXPECT_TRUE(one_by_one.converged.equal(torch::tensor({true, true, false, false})));
  EXPECT_TRUE(one_by_one.residual.equal(torch::tensor({0.0, 0.0, 1.0, 1.0}).to(one_by_one.residual.scalar_type())));
  const auto together = run(Update::synchronous, kUntilConverged);
  EXPECT_TRUE(together.steps.equal(torch::tensor({1, 3, 2, 2}))) << together.steps;
  EXPECT_TRUE(together.period.equal(torch::tensor({1, 1, 2, 2}))) << together.period;
  const auto two = run(Update::asynchronous, 2);
  EXPECT_TRUE(two.steps.equal(torch::tensor({1, 2, 2, 2}))) << two.steps;
}

}  // namespace
}  // namespace hopfield::memory::detail
