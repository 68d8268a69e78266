#include "support/naive.h"
#include "support/retrieve_input.h"
#include <hopfield/ops/retrieve.h>

#include <gtest/gtest.h>

namespace hopfield {
namespace {

using namespace testing;

TEST(PerQuery, FreezesEachStateByItself) {
  const auto state = randn({3, 2, 4, 8}, 1), stored = randn({3, 2, 10, 8}, 2);
  const auto options = RetrieveOptions().beta(1.5).update_steps_max(50).update_steps_eps(1e-3);
  const auto r = retrieve(state, stored, options);
  EXPECT_TRUE(r.converged.all().item<bool>());
  EXPECT_LE(r.residual.max().item<double>(), 1e-3);
  EXPECT_GT((r.steps.max() - r.steps.min()).item<int64_t>(), 0) << "no two queries differ: the test shows nothing";
  const auto expected = naive_retrieve(state, stored, stored, at::full({2}, 1.5, at::kDouble),
                                       at::zeros({3, 2, 4, 10}, at::kDouble), r.steps);
  EXPECT_LT(max_difference(r.state, expected.state), 1e-12);
  // For none of the queries would one step fewer be enough.
  const auto before = naive_retrieve(state, stored, stored, at::full({2}, 1.5, at::kDouble),
                                     at::zeros({3, 2, 4, 10}, at::kDouble), r.steps - 1);
  const auto earlier = naive_retrieve(state, stored, stored, at::full({2}, 1.5, at::kDouble),
                                      at::zeros({3, 2, 4, 10}, at::kDouble), r.steps - 2);
  const auto had_two = r.steps.ge(2);
  EXPECT_GT((before.state - earlier.state).norm(2, -1).masked_select(had_two).min().item<double>(), 1e-3);
  for (int64_t n = 0; n < 3; ++n) {
    const auto alone = retrieve(state.slice(0, n, n + 1), stored.slice(0, n, n + 1), options);
    EXPECT_TRUE(bitwise_equal(alone.steps[0], r.steps[n]));
    EXPECT_LT(max_difference(alone.output[0], r.output[n]), 1e-14);
  }
}

TEST(PerQuery, ZeroThresholdMakesEveryUpdate) {
  const auto stored = randn({1, 1, 4, 4}, 1);
  const auto r = retrieve(stored, stored, RetrieveOptions().beta(1e4).fixed_steps(7));
  EXPECT_TRUE(r.steps.eq(7).all().item<bool>());
  EXPECT_EQ(r.residual.max().item<double>(), 0);
  EXPECT_TRUE(r.converged.all().item<bool>());
}

TEST(PerQuery, NonFiniteStatesStopAloneAndStayVisible) {
  auto state = randn({2, 1, 3, 4}, 1);
  const auto stored = randn({2, 1, 6, 4}, 2);
  const auto options = RetrieveOptions().until_converged();
  const auto clean = retrieve(state, stored, options);
  state[1][0][2][0] = std::numeric_limits<double>::quiet_NaN();
  const auto r = retrieve(state, stored, options);
  EXPECT_TRUE(r.output[1][0][2].isnan().all().item<bool>());
  EXPECT_FALSE(r.converged[1][0][2].item<bool>());
  EXPECT_EQ(r.steps[1][0][2].item<int64_t>(), 1);
  for (const auto& [n, l] : {std::pair{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}}) {
    EXPECT_TRUE(bitwise_equal(r.output[n][0][l], clean.output[n][0][l]));
    EXPECT_TRUE(bitwise_equal(r.steps[n][0][l], clean.steps[n][0][l]));
  }
}

TEST(PerHead, StopsAHeadWhenItsAssociationsRest) {
  const auto state = randn({3, 2, 4, 8}, 1), stored = randn({3, 2, 10, 8}, 2);
  const auto beta = at::tensor({0.5, 2.5}, at::kDouble);
  const auto r = retrieve(state, stored, RetrieveOptions().beta(beta).until_converged().stop_rule(StopRule::per_head));
  const auto bias = at::zeros({3, 2, 4, 10}, at::kDouble);
  const auto association_after = [&](int64_t steps) {
    return naive_retrieve(state, stored, stored, beta, bias, at::full({3, 2, 4}, steps, at::kLong)).association;
  };
  for (int64_t h = 0; h < 2; ++h) {
    const auto steps = r.steps.select(1, h);
    EXPECT_EQ(steps.min().item<int64_t>(), steps.max().item<int64_t>());
    const auto difference = [&](int64_t t) {
      const auto change = (association_after(t) - association_after(t - 1)).select(1, h);
      return change.pow(2).sum({1, 2}).sqrt().max().item<double>();
    };
    const auto t = steps.max().item<int64_t>();
    EXPECT_LE(difference(t), 1e-4);
    if (t > 1) {
      EXPECT_GT(difference(t - 1), 1e-4);
    }
    EXPECT_NEAR(r.residual.select(1, h).max().item<double>(), difference(t), 1e-12);
  }
}

TEST(PerHead, IsNotStoppedByOneBadRowOrEmptyBag) {
  auto state = randn({3, 1, 2, 4}, 1);
  const auto stored = randn({3, 1, 6, 4}, 2);
  const auto options = RetrieveOptions().beta(1.0).until_converged().stop_rule(StopRule::per_head);
  RetrieveInput input{state, stored, {}, {at::zeros({3, 6}, at::kBool)}};
  input.masks.padding_mask[2].fill_(true);
  const auto two = retrieve(state.slice(0, 0, 2), stored.slice(0, 0, 2), options);
  EXPECT_LT(max_difference(retrieve(input, options).output.slice(0, 0, 2), two.output), 1e-14);
  input.state = state.clone();
  input.state[2].fill_(std::numeric_limits<double>::quiet_NaN());
  input.masks.padding_mask.fill_(false);
  const auto r = retrieve(input, options);
  EXPECT_LT(max_difference(r.output.slice(0, 0, 2), two.output), 1e-14);
  EXPECT_TRUE(r.output[2].isnan().all().item<bool>());
}

TEST(UntilConverged, AlwaysEndsAtTheCapAndSaysSo) {
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const auto x = randn({2, 2, 3, 4}, 1).to(dtype);
      const auto r = retrieve(
          x, x,
          RetrieveOptions().beta(1.0).until_converged().update_steps_eps(1e-300).update_steps_cap(5).stop_rule(rule));
      EXPECT_LE(r.steps.max().item<int64_t>(), 5);
      EXPECT_TRUE(r.converged.logical_or(r.steps.eq(5)).all().item<bool>());
    }
  }
}

TEST(UntilConverged, HeadsWithAFixedNumberKeepIt) {
  const auto state = randn({2, 2, 3, 4}, 1), stored = randn({2, 2, 6, 4}, 2);
  const auto r =
      retrieve(state, stored, RetrieveOptions().update_steps_max({2, kUntilConverged}).update_steps_eps(1e-10));
  EXPECT_TRUE(r.steps.select(1, 0).eq(2).all().item<bool>());
  EXPECT_TRUE(r.converged.select(1, 1).all().item<bool>());
}

TEST(UntilConverged, StepCountsHardlyDependOnPrecision) {
  int64_t equal = 0, all = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto state = randn({2, 2, 4, 8}, seed), stored = randn({2, 2, 12, 8}, seed + 1000);
    const auto options = RetrieveOptions().beta(1.2).until_converged().update_steps_eps(1e-3);
    const auto exact = retrieve(state, stored, options).steps;
    const auto single = retrieve(state.to(at::kFloat), stored.to(at::kFloat), options).steps;
    EXPECT_LE((exact - single).abs().max().item<int64_t>(), 1);
    equal += exact.eq(single).sum().item<int64_t>();
    all += exact.numel();
  }
  EXPECT_GE(equal, all * 99 / 100);
}

}  // namespace
}  // namespace hopfield
