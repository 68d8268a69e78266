#include "support/gradcheck.h"
#include "support/naive.h"
#include <hopfield/core/ode.h>

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <cmath>

namespace hopfield::core {
namespace {

using testing::randn;

/// One number for each row.
at::Tensor column(const std::vector<double>& values) { return at::tensor(values, at::kDouble).unsqueeze(1); }

at::Tensor decay(const at::Tensor&, const at::Tensor& state) { return -state; }

double largest_difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

/// A small network with one weight matrix for all rows.
at::Tensor network(const at::Tensor& state, const at::Tensor& weights) {
  return at::tanh(state.matmul(weights)) - state;
}

TEST(OdeGradient, IsThatOfTheStepsThatWereMade) {
  const auto inputs = std::vector<at::Tensor>{randn({3, 4}, 12), randn({4, 4}, 13)};
  const auto options = OdeOptions().rtol(1).atol(1).first_step(0.25).max_step(0.25);
  const auto error = testing::gradcheck(
      [&](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
        const auto function = [&](const at::Tensor& time, const at::Tensor& state) {
          return network(state, in[1]) + 0.1 * time.sin();
        };
        const auto end = integrate(function, in[0], 0, 1, options);
        const auto curve = integrate_at(function, in[0], {0, 0.5, 0.6, 1}, options);
        return {end.state, curve.trajectory, curve.state};
      },
      inputs);
  EXPECT_LT(error, 1e-7);
}

TEST(OdeGradient, WithAdaptiveStepsIsTheProblemsWithinTheTolerance) {
  // Rows with rejected steps and steps of their own. y = y0 exp(rate t).
  const auto state = at::cat({randn({4, 1}, 14), column({-0.5, -3, 1, 0.2})}, 1).requires_grad_();
  const auto factor = at::ones({}, at::kDouble).requires_grad_();
  const auto function = [&](const at::Tensor&, const at::Tensor& rows) {
    const auto y = rows.narrow(1, 0, 1), rate = rows.narrow(1, 1, 1);
    return at::cat({factor * rate * y, at::zeros_like(y)}, 1);
  };
  const auto result = integrate(function, state, 0, 2, OdeOptions().rtol(1e-9).atol(1e-12).first_step(1));
  EXPECT_GT(result.steps_rejected.min().item<int64_t>(), 0);
  const auto gradients = torch::autograd::grad({result.state.select(1, 0).sum()}, {state, factor});
  const auto y = state.detach().select(1, 0), rate = state.detach().select(1, 1);
  EXPECT_LT(largest_difference(gradients[0].select(1, 0), (2 * rate).exp()), 1e-7);
  EXPECT_LT(largest_difference(gradients[0].select(1, 1), 2 * y * (2 * rate).exp()), 1e-7);
  EXPECT_NEAR(gradients[1].item<double>(), (2 * rate * y * (2 * rate).exp()).sum().item<double>(), 1e-7);
}

TEST(OdeGradient, IsNotReachedByRejectedStepsThatAreNotFinite) {
  // y falls to 1, but a step that is too long makes it negative on the way.
  const auto state = column({2, 5}).requires_grad_();
  bool was_negative = false;
  const auto function = [&](const at::Tensor&, const at::Tensor& y) {
    was_negative = was_negative || y.lt(0).any().item<bool>();
    return -10 * y.log();
  };
  const auto result = integrate(function, state, 0, 1, OdeOptions().rtol(1e-10).atol(1e-14).first_step(1));
  EXPECT_TRUE(result.converged.all().item<bool>());
  EXPECT_TRUE(was_negative);
  const auto gradient = torch::autograd::grad({result.state.sum()}, {state})[0];
  // Along a solution, dy(t)/dy(0) = f(y(t)) / f(y(0)).
  const auto expected = result.state.detach().log() / state.detach().log();
  EXPECT_LT(largest_difference(gradient / expected, at::ones({2, 1}, at::kDouble)), 1e-5) << gradient << expected;
}

TEST(OdeGradient, IsRecordedOnlyWhereItIsWanted) {
  const auto state = randn({2, 3}, 15), weights = randn({3, 3}, 16).requires_grad_();
  const auto function = [&](const at::Tensor&, const at::Tensor& rows) { return network(rows, weights); };
  EXPECT_TRUE(integrate(function, state, 0, 1).state.requires_grad());
  EXPECT_TRUE(integrate_to_rest(decay, state.clone().requires_grad_(), 1e-3).state.requires_grad());
  EXPECT_FALSE(integrate(decay, state, 0, 1).state.requires_grad());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(integrate(function, state, 0, 1).state.requires_grad());
}

}  // namespace
}  // namespace hopfield::core
