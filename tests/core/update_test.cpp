#include "core/shared_matmul.h"
#include "support/gradcheck.h"
#include "support/naive.h"
#include <hopfield/core/energy.h>
#include <hopfield/core/update.h>
#include <hopfield/ops/retrieve.h>

#include <gtest/gtest.h>

namespace hopfield::core {
namespace {

using testing::max_difference;
using testing::naive_retrieve;
using testing::randn;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

at::Tensor iterate(at::Tensor state, const at::Tensor& stored, const at::Tensor& beta, int64_t steps) {
  for (int64_t step = 0; step < steps; ++step) state = update(state, stored, beta);
  return state;
}

struct Shape {
  int64_t stored_batch, stored_heads;
};

class SharedPatterns : public ::testing::TestWithParam<Shape> {};

TEST_P(SharedPatterns, MatmulEqualsExpandedMatmul) {
  const auto x = randn({3, 2, 4, 5}, 1);
  const auto y = randn({GetParam().stored_batch, GetParam().stored_heads, 5, 6}, 2);
  EXPECT_LT(max_difference(shared_matmul(x, y), at::matmul(x, y.expand({3, 2, -1, -1}))), 1e-14);
}

TEST_P(SharedPatterns, UpdatesEqualTheExplicitLoop) {
  const auto state = randn({3, 2, 4, 5}, 1),
             stored = randn({GetParam().stored_batch, GetParam().stored_heads, 6, 5}, 2);
  const auto expanded = stored.expand({3, 2, -1, -1}).contiguous();
  const auto beta = at::tensor({0.7, 1.9}, at::kDouble);
  const auto bias = at::zeros({3, 2, 4, 6}, at::kDouble);
  for (const int64_t steps : {0, 1, 3}) {
    const auto expected = naive_retrieve(state, expanded, expanded, beta, bias, at::full({3, 2, 4}, steps, at::kLong));
    const auto ours = iterate(state, stored, beta.view({2, 1, 1}), steps);
    EXPECT_LT(max_difference(ours, expected.state), 1e-13);
    const auto last = scores(ours, stored, beta.view({2, 1, 1}));
    EXPECT_LT(max_difference(association(last), expected.association), 1e-13);
    EXPECT_LT(max_difference(logsumexp(last), expected.logsumexp), 1e-13);
    EXPECT_LT(max_difference(energy(ours, stored, beta.view({2, 1, 1})), expected.energy), 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(All, SharedPatterns, ::testing::Values(Shape{3, 2}, Shape{1, 2}, Shape{3, 1}, Shape{1, 1}));

TEST(Update, TakesPatternsWithoutBatchAndHeads) {
  const auto state = randn({4, 5}, 1), stored = randn({6, 5}, 2);
  const auto beta = at::scalar_tensor(2.0, at::kDouble);
  const auto expected = at::softmax(2.0 * state.matmul(stored.t()), -1).matmul(stored);
  EXPECT_LT(max_difference(update(state, stored, beta), expected), 1e-14);
  EXPECT_EQ(energy(state, stored, beta).sizes(), at::IntArrayRef({4}));
}

TEST(Update, KeepsDeadRowsAndTheirGradientsClean) {
  const auto state = randn({1, 1, 3, 2}, 1).requires_grad_(true), stored = randn({1, 1, 4, 2}, 2).requires_grad_(true);
  auto excluded = at::zeros({1, 1, 3, 4}, at::kBool);
  excluded[0][0][1].fill_(true);
  const Masks masks{{}, excluded};
  const auto beta = at::scalar_tensor(1.0, at::kDouble);
  const auto next = update(state, stored, beta, masks);
  EXPECT_TRUE(testing::bitwise_equal(next[0][0][1], state[0][0][1]));
  const auto s = scores(state, stored, beta, masks);
  EXPECT_EQ(association(s)[0][0][1].abs().sum().item<double>(), 0);
  EXPECT_EQ(logsumexp(s)[0][0][1].item<double>(), -kInfinity);
  association(s).pow(2).sum().backward();
  EXPECT_EQ(state.grad()[0][0][1].abs().sum().item<double>(), 0);
  EXPECT_TRUE(at::isfinite(stored.grad()).all().item<bool>());
}

TEST(Energy, GradientIsStateMinusUpdate) {
  const auto stored = randn({1, 1, 6, 3}, 2);
  const auto beta = at::scalar_tensor(1.7, at::kDouble);
  const auto state = randn({1, 1, 4, 3}, 1).requires_grad_(true);
  energy(state, stored, beta).sum().backward();
  EXPECT_LT(max_difference(state.grad(), state - update(state, stored, beta)), 1e-13);
}

TEST(Energy, NeverRisesAndStaysInItsBounds) {
  const auto stored = randn({2, 2, 20, 8}, 2);
  const double largest = stored.pow(2).sum(-1).max().item<double>();
  for (const double b : {0.1, 1.0, 10.0}) {
    const auto beta = at::scalar_tensor(b, at::kDouble);
    auto state = update(randn({2, 2, 5, 8}, 1), stored, beta);  // in the patterns' hull from here on
    auto before = energy(state, stored, beta);
    for (int step = 0; step < 20; ++step) {
      EXPECT_GE(before.min().item<double>(), -1e-12);
      EXPECT_LE(before.max().item<double>(), 2 * largest);
      state = update(state, stored, beta);
      const auto after = energy(state, stored, beta);
      EXPECT_LE((after - before).max().item<double>(), 1e-12);
      before = after;
    }
  }
}

TEST(Energy, CountsLivePatternsOnly) {
  const auto state = randn({1, 1, 2, 3}, 1), stored = randn({1, 1, 5, 3}, 2);
  const auto beta = at::scalar_tensor(2.0, at::kDouble);
  auto excluded = at::zeros({1, 1, 1, 5}, at::kBool);
  excluded[0][0][0].slice(0, 3).fill_(true);
  const auto masked = energy(state, stored, beta, {{}, excluded});
  EXPECT_LT(max_difference(masked, energy(state, stored.slice(2, 0, 3), beta)), 1e-13);
  const auto nothing = stored.slice(2, 0, 0);
  EXPECT_EQ(energy(state, nothing, beta).min().item<double>(), kInfinity);
}

TEST(Energy, TakesTheMasksThatRetrieveTakes) {
  const auto state = randn({2, 3, 4, 5}, 1), stored = randn({2, 3, 6, 5}, 2), beta = at::full({}, 0.8, at::kDouble);
  auto padding = at::zeros({2, 6}, at::kBool);
  padding[1].slice(0, 4).fill_(true);
  const auto bias = randn({2, 6}, 3), added = randn({4, 6}, 4);
  const Masks masks{padding, added, bias};
  const auto r = retrieve({state, stored, {}, masks}, RetrieveOptions().beta(beta).with_energy());
  EXPECT_LT(max_difference(energy(state, stored, beta, masks), r.energy), 1e-12);
  const auto update = retrieve({state, stored, {}, masks}, RetrieveOptions().beta(beta)).output;
  EXPECT_LT(max_difference(core::update(state, stored, beta, masks), update), 1e-12);
  const auto one = energy(state[0][0], stored[0][0], beta, {padding[0], {}, bias[0]});
  EXPECT_LT(max_difference(one, energy(state, stored, beta, {padding, {}, bias})[0][0]), 1e-12);
}

TEST(Energy, PassesGradcheck) {
  const auto function = [](const std::vector<at::Tensor>& x) {
    return std::vector<at::Tensor>{energy(x[0], x[1], x[2]), update(x[0], x[1], x[2])};
  };
  EXPECT_LT(testing::gradcheck(function, {randn({2, 2, 2, 3}, 1), randn({1, 2, 4, 3}, 2), randn({2, 1, 1}, 3).exp()}),
            1e-6);
}

}  // namespace
}  // namespace hopfield::core
