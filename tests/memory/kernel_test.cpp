#include "memory/patterns.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/memory/kernel.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using hopfield::testing::expect_error;
using hopfield::testing::max_difference;
using hopfield::testing::randn;

TEST(KernelMemory, UpdatesAndEnergyAreTheFormulas) {
  const auto patterns = randn({300, 4}, 1), states = randn({400, 4}, 2);
  const KernelMemory memory(patterns, KernelOptions().beta(1.5).epsilon(1e-3));
  const auto distances = (states.unsqueeze(1) - patterns).pow(2).sum(-1);
  const auto kernels = (1 - 0.75 * distances).clamp_min(0);
  EXPECT_LT(max_difference(memory.energy(states), (1e-3 + kernels.sum(-1)).log() / -1.5), 1e-12);
  const auto acts = (distances < 2 / 1.5).to(at::kDouble);
  const auto alone = acts.sum(-1) == 0;
  ASSERT_GT(alone.sum().item<int64_t>(), 10);
  const auto mean = at::where(alone.unsqueeze(-1), states, at::mm(acts, patterns) / acts.sum(-1, true));
  const auto recall = memory.retrieve(states, RecallOptions().update_steps_max(1));
  EXPECT_LT(max_difference(recall.state, mean), 1e-13);
  // A query on which no pattern acts stays, and says so.
  EXPECT_TRUE(recall.steps.eq(0).equal(alone));
  EXPECT_TRUE(recall.state.index({alone}).equal(states.index({alone})));
  EXPECT_FALSE(recall.converged.index({alone}).any().item<bool>());
  EXPECT_TRUE(recall.match.index({alone}).eq(-1).all().item<bool>());
  EXPECT_TRUE(recall.period.index({alone}).eq(0).all().item<bool>());
  const KernelMemory plain(patterns, KernelOptions().beta(1.5));
  EXPECT_TRUE(plain.energy(states).eq(std::numeric_limits<double>::infinity()).equal(alone));
}

TEST(KernelMemory, EnergyNeverRisesAndUpdatesEndAtFixedPoints) {
  const KernelMemory memory(randn({200, 3}, 1), KernelOptions().beta(2.0).epsilon(1e-9));
  const auto states = randn({300, 3}, 2);
  auto before = memory.energy(states);
  for (int64_t steps = 1; steps < 12; ++steps) {
    const auto now = memory.retrieve(states, RecallOptions().update_steps_max(steps)).energy;
    EXPECT_LE((now - before).max().item<double>(), 1e-12);
    before = now;
  }
  const auto recall = memory.retrieve(states);
  EXPECT_TRUE(recall.converged.bitwise_or(recall.steps == 0).all().item<bool>());
  EXPECT_TRUE(bitwise_equal(memory.retrieve(recall.state, RecallOptions().update_steps_max(1)).state, recall.state));
}

TEST(KernelMemory, OneUpdateIsExactWhereTheRadiusAllows) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto patterns = (10 + randn({500, 16}, 1)).to(type);
    const auto least = at::pdist(patterns.to(at::kDouble)).min().item<double>();
    for (const double share : {0.1, 0.3, 0.49}) {
      const auto reach = share * least;
      const KernelMemory memory(patterns, KernelOptions().beta(2 / std::pow(least - reach, 2)));
      const auto cues = patterns + sphere(500, 16, 2, 0.999 * reach).to(type);
      const auto recall = memory.retrieve(cues, RecallOptions().update_steps_max(1));
      EXPECT_TRUE(bitwise_equal(recall.state, patterns)) << share;
      EXPECT_TRUE(recall.match.equal(at::arange(500)));
    }
  }
}

TEST(KernelMemory, MeansOfClosePatternsAreMemoriesToo) {
  // Two patterns at a distance r: one minimum up to beta r^2 = 2, three up to 8, two from then on.
  const auto patterns = at::tensor({-0.5, 0.5}, at::kDouble).unsqueeze(-1);
  const auto starts = at::linspace(-0.7, 0.7, 57, at::kDouble).unsqueeze(-1);
  for (const auto& [beta, expected] : std::vector<std::pair<double, std::set<double>>>{{1.0, {0.0}},
                                                                                       {1.9, {0.0}},
                                                                                       {2.0, {-0.5, 0.0, 0.5}},
                                                                                       {5.0, {-0.5, 0.0, 0.5}},
                                                                                       {7.9, {-0.5, 0.0, 0.5}},
                                                                                       {8.0, {-0.5, 0.5}},
                                                                                       {20.0, {-0.5, 0.5}}}) {
    const KernelMemory memory(patterns, KernelOptions().beta(beta));
    const auto recall = memory.retrieve(starts);
    std::set<double> found;
    const auto ends = recall.state.index({recall.converged}).contiguous();
    for (int64_t i = 0; i < ends.size(0); ++i) found.insert(ends[i].item<double>());
    EXPECT_EQ(found, expected) << "beta " << beta;
  }
}

TEST(KernelMemory, DistancesAtTheRadiusAreDecidedByTheDifference) {
  // Large features hide the small distances from the product of state and pattern.
  const auto patterns = at::full({1, 3}, 1e4);
  const KernelMemory memory(patterns, KernelOptions().beta(2.0));  // radius 1
  auto cues = patterns.repeat({2, 1});
  cues[0][0] += 0.99, cues[1][0] += 1.0;
  const auto recall = memory.retrieve(cues, RecallOptions().update_steps_max(1));
  EXPECT_EQ(recall.steps[0].item<int64_t>(), 1);
  EXPECT_EQ(recall.steps[1].item<int64_t>(), 0);
}

TEST(KernelMemory, IsSavedAndRefusesWrongOptions) {
  const KernelMemory memory(randn({6, 4}, 1), KernelOptions().beta(0.7).epsilon(0.1));
  const auto path = ::testing::TempDir() + "hopfield.kernel.safetensors";
  memory.save(path);
  const auto copy = load(path);
  EXPECT_STREQ(copy->kind(), "KernelMemory");
  const auto states = randn({5, 4}, 2);
  EXPECT_TRUE(bitwise_equal(copy->energy(states), memory.energy(states)));
  EXPECT_TRUE(bitwise_equal(copy->retrieve(states).state, memory.retrieve(states).state));
  EXPECT_DOUBLE_EQ(KernelMemory(randn({2, 8}, 1)).beta(), 0.5);
  const double nan = std::nan("");
  expect_error({"beta of 0", [] { KernelMemory(KernelOptions().beta(0.0)); }, {"KernelMemory", "beta", "0"}});
  expect_error({"beta of NaN", [=] { KernelMemory(KernelOptions().beta(nan)); }, {"beta", "nan"}});
  expect_error({"negative epsilon", [] { KernelMemory(KernelOptions().epsilon(-1.0)); }, {"epsilon", "-1"}});
}

}  // namespace
}  // namespace hopfield::memory
