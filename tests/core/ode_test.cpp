#include "support/device.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/core/ode.h>

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace hopfield::core {
namespace {

using testing::bitwise_equal;
using testing::expect_error;
using testing::randn;

constexpr double kPi = 3.14159265358979323846;

at::Tensor numbers(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

/// One number for each row.
at::Tensor column(const std::vector<double>& values) { return numbers(values).unsqueeze(1); }

at::Tensor decay(const at::Tensor&, const at::Tensor& state) { return -state; }

/// Columns: position, velocity, angular frequency.
at::Tensor oscillator(const at::Tensor&, const at::Tensor& state) {
  const auto position = state.select(1, 0), velocity = state.select(1, 1), frequency = state.select(1, 2);
  return at::stack({velocity, -frequency * frequency * position, at::zeros_like(position)}, 1);
}

/// Columns: position, velocity, mu.
at::Tensor van_der_pol(const at::Tensor&, const at::Tensor& state) {
  const auto x = state.select(1, 0), v = state.select(1, 1), mu = state.select(1, 2);
  return at::stack({v, mu * (1 - x * x) * v - x, at::zeros_like(x)}, 1);
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b).abs().max().item<double>();
}

void expect_all_converged(const OdeResult& result) {
  EXPECT_TRUE(result.converged.all().item<bool>()) << result.failure;
  EXPECT_TRUE(result.failure.eq(0).all().item<bool>());
}

at::Tensor steps_of(const OdeResult& result) { return result.steps_accepted + result.steps_rejected; }

TEST(Ode, ExponentialDecayIsWithinASmallFactorOfTheTolerance) {
  const auto state = randn({5, 3}, 1);
  for (const double tolerance : {1e-3, 1e-5, 1e-7, 1e-9, 1e-11}) {
    const auto result = integrate(decay, state, 0.5, 3.5, OdeOptions().rtol(tolerance).atol(1e-3 * tolerance));
    expect_all_converged(result);
    const auto error = ((result.state - state * std::exp(-3.0)) / (state * std::exp(-3.0))).abs().max().item<double>();
    EXPECT_LT(error, 10 * tolerance);
    EXPECT_GT(error, tolerance / 1000);  // not by steps that are needlessly short
  }
}

TEST(Ode, HarmonicOscillatorsReturnAfterAPeriod) {
  const auto state = at::cat({randn({4, 2}, 2), column({1, 2, 0.1, 30})}, 1);
  for (int64_t row = 0; row < 4; ++row) {
    const auto start = state.narrow(0, row, 1);
    const auto frequency = start[0][2].item<double>();
    const auto result = integrate(oscillator, start, 0, 6 * kPi / frequency, OdeOptions().rtol(1e-9).atol(1e-12));
    expect_all_converged(result);
    EXPECT_LT(largest_difference(result.state, start), 1e-6 * std::max(1.0, frequency)) << frequency;
    EXPECT_EQ(result.state[0][2].item<double>(), frequency);
  }
}

TEST(Ode, TheErrorFollowsTheToleranceAndStepsItsFifthRoot) {
  const auto state = numbers({1, 0, 1}).unsqueeze(0);
  const auto exact = numbers({std::cos(20.0), -std::sin(20.0), 1}).unsqueeze(0);
  std::vector<double> errors, steps;
  for (const double tolerance : {0x1p-14, 0x1p-24, 0x1p-34}) {
    const auto result = integrate(oscillator, state, 0, 20, OdeOptions().rtol(tolerance).atol(tolerance));
    errors.push_back(largest_difference(result.state, exact));
    steps.push_back(result.steps_accepted.item<double>());
  }
  for (size_t i = 1; i < errors.size(); ++i) {  // the tolerance fell to 2^-10, so steps become a quarter as long
    EXPECT_NEAR(std::log2(errors[i - 1] / errors[i]), 10, 1.5);
    EXPECT_NEAR(steps[i] / steps[i - 1], 4, 0.5);
  }
}

TEST(Ode, IsOfOrderFiveInTheLengthOfFixedSteps) {
  const auto state = numbers({1, 0, 1}).unsqueeze(0);
  const auto exact = numbers({std::cos(4.0), -std::sin(4.0), 1}).unsqueeze(0);
  const auto error = [&](double length) {
    const auto options = OdeOptions().rtol(1).atol(1).first_step(length).max_step(length);
    const auto result = integrate(oscillator, state, 0, 4, options);
    EXPECT_EQ(result.steps_accepted.item<double>(), 4 / length);
    return largest_difference(result.state, exact);
  };
  EXPECT_NEAR(std::log2(error(1. / 8) / error(1. / 16)), 5, 0.3);
  EXPECT_NEAR(std::log2(error(1. / 16) / error(1. / 32)), 5, 0.3);
}

TEST(Ode, StiffRowsTakeMoreSteps) {
  // Periods of the limit cycle by mu; for mu = 1 and 10 they stand in the literature (6.6633 and 19.0784).
  const auto mu = column({1, 10});
  const auto period = column({6.6632868593, 19.0783695664});
  for (int64_t row = 0; row < 2; ++row) {
    const auto start = at::cat({column({2, 0}).t(), mu.narrow(0, row, 1)}, 1);
    const auto options = OdeOptions().rtol(1e-9).atol(1e-9);
    const auto on_cycle = integrate(van_der_pol, start, 0, 40, options);
    const auto again = integrate(van_der_pol, on_cycle.state, 0, period[row].item<double>(), options);
    expect_all_converged(again);
    EXPECT_LT(largest_difference(again.state, on_cycle.state), 1e-4);
  }
  const auto both = integrate(van_der_pol, at::cat({at::ones({2, 2}, at::kDouble), column({1, 100})}, 1), 0, 10);
  expect_all_converged(both);
  EXPECT_GT(both.steps_accepted[1].item<int64_t>(), 5 * both.steps_accepted[0].item<int64_t>());
}

TEST(Ode, EachRowHasStepsOfItsOwn) {
  const auto frequency = std::vector<double>{1e-3, 1, 10, 100};
  const auto state = at::cat({at::ones({4, 1}, at::kDouble), at::zeros({4, 1}, at::kDouble), column(frequency)}, 1);
  const auto result = integrate(oscillator, state, 0, 5);
  expect_all_converged(result);
  const auto steps = result.steps_accepted;
  EXPECT_LT(steps[0].item<int64_t>(), 10);
  EXPECT_GT(steps[2].item<int64_t>(), 5 * steps[1].item<int64_t>());
  EXPECT_GT(steps[3].item<int64_t>(), 5 * steps[2].item<int64_t>());
  const auto exact = (column(frequency) * 5).cos();
  EXPECT_LT(largest_difference(result.state.narrow(1, 0, 1), exact), 1e-2);
  EXPECT_LT(largest_difference(result.state.narrow(1, 0, 1).narrow(0, 0, 3), exact.narrow(0, 0, 3)), 1e-4);
}

/// Columns: position, velocity, damping.
at::Tensor damped(const at::Tensor&, const at::Tensor& state) {
  const auto position = state.select(1, 0), velocity = state.select(1, 1), damping = state.select(1, 2);
  return at::stack({velocity, -position - damping * velocity, at::zeros_like(position)}, 1);
}

/// Rows of different speeds, some of which fail, in 37 rows so that vectorised loops have a remainder.
at::Tensor mixed_states(at::ScalarType type) {
  const auto rows = 37;
  const auto mu = at::linspace(0.1, 8, rows, at::kDouble).unsqueeze(1);
  auto state = at::cat({randn({rows, 2}, 4), mu}, 1);
  state[5][0] = std::numeric_limits<double>::quiet_NaN();
  state[11][2] = 1e200;
  return state.to(type);
}

TEST(Ode, ARowAloneHasTheBitsOfTheRowInABatch) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const auto state = mixed_states(type);
    const auto options = OdeOptions().rtol(1e-5).atol(1e-6).steps_max(300);
    const std::vector<double> times{0, 0.1, 3, 3.5, 7};
    const auto at_rest = [&](const at::Tensor& rows) { return integrate_to_rest(damped, rows, 0.2, options); };
    const auto whole = integrate(van_der_pol, state, 0, 7, options);
    const auto curves = integrate_at(van_der_pol, state, times, options);
    const auto rest = at_rest(state);
    for (const int64_t row : {0, 5, 11, 16, 31, 32, 33, 34, 35, 36}) {
      const auto expect_same = [&](const OdeResult& result, const OdeResult& alone) {
        EXPECT_TRUE(bitwise_equal(result.state.narrow(0, row, 1), alone.state));
        EXPECT_TRUE(bitwise_equal(result.time.narrow(0, row, 1), alone.time));
        EXPECT_TRUE(bitwise_equal(result.speed.narrow(0, row, 1), alone.speed));
        EXPECT_TRUE(bitwise_equal(steps_of(result).narrow(0, row, 1), steps_of(alone)));
        EXPECT_TRUE(bitwise_equal(result.failure.narrow(0, row, 1), alone.failure));
      };
      SCOPED_TRACE(row);
      const auto start = state.narrow(0, row, 1);
      expect_same(whole, integrate(van_der_pol, start, 0, 7, options));
      expect_same(rest, at_rest(start));
      const auto curve = integrate_at(van_der_pol, start, times, options);
      expect_same(curves, curve);
      EXPECT_TRUE(bitwise_equal(curves.trajectory.narrow(1, row, 1), curve.trajectory));
    }
    EXPECT_FALSE(whole.converged[5].item<bool>());
    EXPECT_EQ(whole.converged.sum().item<int64_t>(), 35);
  }
}

TEST(Ode, TheRightHandSideKnowsTheTimeOfEachRow) {
  // y = exp(rate sin t), with the rate in the second column.
  const auto function = [](const at::Tensor& time, const at::Tensor& state) {
    EXPECT_EQ(time.sizes(), at::IntArrayRef({state.size(0), 1}));
    EXPECT_EQ(time.scalar_type(), state.scalar_type());
    const auto y = state.narrow(1, 0, 1), rate = state.narrow(1, 1, 1);
    return at::cat({rate * time.cos() * y, at::zeros_like(y)}, 1);
  };
  const auto rate = column({0.1, 1, 4});
  const auto state = at::cat({at::ones({3, 1}, at::kDouble), rate}, 1);
  const auto result = integrate(function, state, 0, 4, OdeOptions().rtol(1e-9).atol(1e-12));
  expect_all_converged(result);
  EXPECT_LT(largest_difference(result.state.narrow(1, 0, 1), (rate * std::sin(4.0)).exp()), 1e-7);
}

TEST(Ode, TheEndIsReachedExactly) {
  for (const double end : {1e-7, 0.1, 1.0 / 3, 12.7}) {
    const auto result = integrate(oscillator, numbers({1, 0, 1}).unsqueeze(0), -0.7, end);
    EXPECT_EQ(result.time.item<double>(), end);
    EXPECT_NEAR(result.state[0][0].item<double>(), std::cos(end + 0.7), 1e-4);
  }
  const auto state = randn({2, 3}, 5);
  const auto none = integrate(decay, state, 2, 2);
  EXPECT_TRUE(bitwise_equal(none.state, state));
  EXPECT_EQ(steps_of(none).sum().item<int64_t>(), 0);
  expect_all_converged(none);
}

TEST(Ode, TrajectoriesHaveTheStatesAtTheGivenTimes) {
  const auto state = at::cat({randn({3, 2}, 6), column({0.2, 1, 6})}, 1);
  std::vector<double> times;
  for (int i = 0; i <= 40; ++i) times.push_back(-1 + 0.1 * i);
  const auto options = OdeOptions().rtol(1e-8).atol(1e-10);
  const auto curve = integrate_at(oscillator, state, times, options);
  expect_all_converged(curve);
  ASSERT_EQ(curve.trajectory.sizes(), at::IntArrayRef({41, 3, 3}));
  const auto passed = (numbers(times) + 1).unsqueeze(1) * state.select(1, 2);  // [times, rows]
  const auto exact = state.select(1, 0) * passed.cos() + state.select(1, 1) / state.select(1, 2) * passed.sin();
  EXPECT_LT(largest_difference(curve.trajectory.select(2, 0), exact), 1e-6);
  EXPECT_TRUE(bitwise_equal(curve.trajectory[0], state));
  EXPECT_TRUE(bitwise_equal(curve.trajectory[40], curve.state));
  EXPECT_TRUE(curve.time.eq(3).all().item<bool>());
  // Times close to each other do not shorten the steps after them.
  const auto crowded = integrate_at(oscillator, state, {0, 1, 1 + 1e-9, 1 + 2e-9, 4}, options);
  const auto plain = integrate(oscillator, state, 0, 4, options);
  EXPECT_TRUE(steps_of(crowded).le(steps_of(plain) + 6).all().item<bool>()) << steps_of(crowded) << steps_of(plain);

  const auto only = integrate_at(oscillator, state, {2.0});
  EXPECT_TRUE(bitwise_equal(only.trajectory, state.unsqueeze(0)));
}

TEST(Ode, ComesToRestBelowTheTolerance) {
  // Rates from 1 to 100 in one row: the fast ones must not tremble at the size of the tolerance.
  const auto rates = at::logspace(0, 2, 7, 10.0, at::kDouble);
  const auto goal = randn({4, 7}, 7);
  const auto function = [&](const at::Tensor&, const at::Tensor& state) {
    const auto distance = state.narrow(1, 0, 7) - state.narrow(1, 7, 7);
    return at::cat({-rates * distance, at::zeros_like(distance)}, 1);
  };
  const auto state = at::cat({randn({4, 7}, 8), goal}, 1);
  const auto result = integrate_to_rest(function, state, 1e-11, OdeOptions().rtol(1e-3).atol(1e-3));
  expect_all_converged(result);
  EXPECT_LE(result.speed.max().item<double>(), 1e-11);
  EXPECT_LT(largest_difference(result.state.narrow(1, 0, 7), goal), 1e-11);
  EXPECT_TRUE(result.time.gt(20).logical_and(result.time.lt(40)).all().item<bool>()) << result.time;

  const auto again = integrate_to_rest(function, result.state, 1e-11);
  EXPECT_EQ(steps_of(again).sum().item<int64_t>(), 0);
  EXPECT_TRUE(bitwise_equal(again.state, result.state));
  expect_all_converged(again);
}

TEST(Ode, SpiralsComeToRest) {
  const auto function = [](const at::Tensor&, const at::Tensor& state) {
    const auto x = state.select(1, 0), y = state.select(1, 1);
    return at::stack({-0.05 * x - y, x - 0.05 * y}, 1);
  };
  const auto result = integrate_to_rest(function, randn({6, 2}, 9), 1e-9, OdeOptions().rtol(1e-4).atol(1e-4));
  expect_all_converged(result);
  EXPECT_LT(result.state.abs().max().item<double>(), 1e-9);
}

TEST(Ode, AnythingThatIsNotFiniteFailsItsRowAlone) {
  // Columns: y, the size beyond which dy/dt is NaN.
  const auto function = [](const at::Tensor&, const at::Tensor& state) {
    const auto y = state.narrow(1, 0, 1), limit = state.narrow(1, 1, 1);
    const auto slope = y.masked_fill(y.gt(limit), std::numeric_limits<double>::quiet_NaN());
    return at::cat({slope, at::zeros_like(y)}, 1);
  };
  const auto state = at::cat({at::ones({3, 1}, at::kDouble), column({100, 2, 0.5})}, 1);
  const auto result = integrate_at(function, state, {0, 0.5, 1, 2});
  EXPECT_TRUE(result.converged.equal(at::tensor({1, 0, 0}).to(at::kBool)));
  const auto not_finite = static_cast<int>(OdeFailure::not_finite);
  EXPECT_TRUE(result.failure.equal(at::tensor({0, not_finite, not_finite}).to(at::kChar))) << result.failure;
  EXPECT_NEAR(result.state[0][0].item<double>(), std::exp(2.0), 1e-4);
  // The second row stops just before it cannot go on, the third where it is.
  EXPECT_NEAR(result.time[1].item<double>(), std::log(2.0), 1e-4);
  EXPECT_NEAR(result.state[1][0].item<double>(), 2, 1e-4);
  EXPECT_EQ(result.time[2].item<double>(), 0);
  EXPECT_EQ(steps_of(result)[2].item<int64_t>(), 0);
  const auto is_nan = result.trajectory.select(2, 0).isnan();  // [times, rows]
  EXPECT_TRUE(is_nan.equal(at::tensor({0, 0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 1}).view({4, 3}).to(at::kBool))) << is_nan;
}

TEST(Ode, ReportsSingularitiesAndTheCapOfSteps) {
  const auto square = [](const at::Tensor&, const at::Tensor& state) { return state * state; };
  const auto state = column({0.1, 1});  // 1 / (1 / y - t)
  const auto result = integrate(square, state, 0, 5);
  EXPECT_TRUE(result.converged.equal(at::tensor({1, 0}).to(at::kBool)));
  EXPECT_NEAR(result.state[0].item<double>(), 0.2, 1e-5);
  EXPECT_EQ(result.failure[1].item<int64_t>(), static_cast<int64_t>(OdeFailure::step_underflow));
  EXPECT_NEAR(result.time[1].item<double>(), 1, 1e-4);

  const auto few = integrate(decay, column({1, 0}), 0, 1000, OdeOptions().steps_max(20));
  EXPECT_EQ(few.failure[0].item<int64_t>(), static_cast<int64_t>(OdeFailure::too_many_steps));
  EXPECT_EQ(steps_of(few)[0].item<int64_t>(), 20);
  EXPECT_LT(few.time[0].item<double>(), 1000);
  EXPECT_TRUE(few.converged[1].item<bool>());
  EXPECT_TRUE(integrate(decay, column({1}), 0, 1, OdeOptions().steps_max(20)).converged.item<bool>());
}

TEST(Ode, NoRowsAreNoWork) {
  const auto function = [](const at::Tensor&, const at::Tensor& state) {
    ADD_FAILURE() << "there is nothing to evaluate";
    return state;
  };
  const auto state = at::zeros({0, 3}, at::kFloat);
  for (const auto& result : {integrate(function, state, 0, 1), integrate_at(function, state, {0, 1, 2}),
                             integrate_to_rest(function, state, 1e-6)}) {
    EXPECT_EQ(result.state.sizes(), state.sizes());
    EXPECT_EQ(result.state.scalar_type(), at::kFloat);
    EXPECT_EQ(result.converged.sizes(), at::IntArrayRef({0}));
    if (result.trajectory.defined()) {
      EXPECT_EQ(result.trajectory.sizes(), at::IntArrayRef({3, 0, 3}));
    }
  }
}

TEST(Ode, SinglePrecisionIsAsExactAsItsRounding) {
  const auto state = at::cat({randn({4, 2}, 10), column({0.5, 1, 2, 3})}, 1);
  const auto options = OdeOptions().rtol(1e-6).atol(1e-6);
  const auto reference = integrate(oscillator, state, 0, 6, options);
  const auto result = integrate(oscillator, state.to(at::kFloat), 0, 6, options);
  expect_all_converged(result);
  EXPECT_EQ(result.state.scalar_type(), at::kFloat);
  EXPECT_EQ(result.speed.scalar_type(), at::kFloat);
  EXPECT_EQ(result.time.scalar_type(), at::kDouble);
  EXPECT_LT(largest_difference(result.state, reference.state), 1e-4);

  const auto rest = integrate_to_rest(decay, state.to(at::kFloat), 1e-7, OdeOptions().rtol(1e-3).atol(1e-3));
  expect_all_converged(rest);
  EXPECT_LE(rest.state.abs().max().item<double>(), 1e-7);
}

TEST(Ode, RunsOnTheDeviceOfItsState) {
  const auto device = testing::test_device();
  const auto state = at::cat({randn({4, 2}, 11), column({0.5, 1, 2, 3})}, 1);
  const auto here = integrate_at(van_der_pol, state, {0, 1, 2});
  const auto there = integrate_at(van_der_pol, state.to(device), {0, 1, 2});
  for (const auto& tensor : {there.state, there.time, there.speed, there.steps_accepted, there.steps_rejected,
                             there.converged, there.failure, there.trajectory}) {
    EXPECT_EQ(tensor.device().type(), device.type());
  }
  EXPECT_LT(largest_difference(there.trajectory.cpu(), here.trajectory), 1e-6);
}

TEST(Ode, RefusesWrongCalls) {
  const auto state = randn({2, 3}, 17);
  const auto with = [&](const OdeOptions& options) { return [=] { integrate(decay, state, 0, 1, options); }; };
  const auto returns = [&](const at::Tensor& derivative) {
    return [=] { integrate([=](const at::Tensor&, const at::Tensor&) { return derivative; }, state, 0, 1); };
  };
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& wrong : std::vector<testing::WrongCall>{
           {"negative rtol", with(OdeOptions().rtol(-1e-3)), {"core::integrate:", "rtol", "-0.001"}},
           {"negative atol", with(OdeOptions().atol(-1e-3)), {"atol", "-0.001"}},
           {"NaN tolerance", with(OdeOptions().atol(nan)), {"atol nan"}},
           {"no tolerance", with(OdeOptions().rtol(0).atol(0)), {"rtol or atol to be positive"}},
           {"first step", with(OdeOptions().first_step(0)), {"first_step", "got 0"}},
           {"longest step", with(OdeOptions().max_step(-1)), {"max_step", "got -1"}},
           {"cap", with(OdeOptions().steps_max(0)), {"steps_max", "got 0"}},
           {"end before start", [=] { integrate(decay, state, 1, 0); }, {"end at least start", "end 0", "backwards"}},
           {"endless", [=] { integrate(decay, state, 0, 1.0 / 0.0); }, {"finite times", "inf"}},
           {"vector", [=] { integrate(decay, state[0], 0, 1); }, {"2 dimensions [rows, d]", "[3]", "unsqueeze"}},
           {"undefined", [=] { integrate(decay, {}, 0, 1); }, {"undefined"}},
           {"no columns", [=] { integrate(decay, state.narrow(1, 0, 0), 0, 1); }, {"d at least 1", "[2, 0]"}},
           {"integers", [=] { integrate(decay, state.to(at::kLong), 0, 1); }, {"float32 or float64", "Long"}},
           {"no function", [=] { integrate({}, state, 0, 1); }, {"empty function"}},
           {"shape of dy/dt", returns(at::zeros({2, 4}, at::kDouble)), {"[2, 3] Double", "[2, 4] Double"}},
           {"type of dy/dt", returns(at::zeros({2, 3}, at::kFloat)), {"[2, 3] Double", "[2, 3] Float"}},
           {"undefined dy/dt", returns({}), {"undefined"}},
           {"no times", [=] { integrate_at(decay, state, {}); }, {"core::integrate_at:", "at least one time"}},
           {"unsorted times",
            [=] {
              integrate_at(decay, state, {0, 2, 1});
            },
            {"got 1 at place 2"}},
           {"threshold", [=] { integrate_to_rest(decay, state, 0); }, {"core::integrate_to_rest:", "got 0"}},
       }) {
    expect_error(wrong);
  }
}

}  // namespace
}  // namespace hopfield::core
