#include "core/ode_step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

namespace hopfield::core {
namespace {

constexpr int kStages = 7;
constexpr std::array<double, kStages> kTimes{0, 1. / 5, 3. / 10, 4. / 5, 8. / 9, 1, 1};
// The last row has the weights of the solution of order 5: its stage is the next step's first.
constexpr double kWeights[kStages][kStages - 1] = {
    {},
    {1. / 5},
    {3. / 40, 9. / 40},
    {44. / 45, -56. / 15, 32. / 9},
    {19372. / 6561, -25360. / 2187, 64448. / 6561, -212. / 729},
    {9017. / 3168, -355. / 33, 46732. / 5247, 49. / 176, -5103. / 18656},
    {35. / 384, 0, 500. / 1113, 125. / 192, -2187. / 6784, 11. / 84},
};
// The weights of order 5 less those of order 4.
constexpr double kErrorWeights[kStages] = {
    71. / 57600, 0, -71. / 16695, 71. / 1920, -17253. / 339200, 22. / 525, -1. / 40,
};

/// The largest error of a step on the way to rest, as a share of the step itself. Near rest, with the slowest rate
/// lambda, errors and steps shrink alike, so the share depends on h lambda alone. This one keeps |h lambda| near 1.4
/// and below 1.7, where the method is stable for decaying and for turning motions. The tolerance alone would let h grow
/// until the state trembles at the size of the tolerance.
constexpr double kLargestErrorToRest = 0.01;

constexpr double kSafety = 0.9;
constexpr double kLeastFactor = 0.2;
constexpr double kLargestFactor = 10.0;

at::Tensor weighted_sum(const std::vector<at::Tensor>& slopes, const double* weights) {
  at::Tensor sum;
  for (size_t i = 0; i < slopes.size(); ++i) {
    if (weights[i] == 0) continue;
    const auto term = slopes[i] * weights[i];
    sum = sum.defined() ? sum + term : term;
  }
  return sum;
}

/// x^(power / 32) for x >= 0, in operations whose rounding IEEE 754 fixes.
at::Tensor power_of_32nd_root(const at::Tensor& x, int power) {
  auto root = x;
  for (int i = 0; i < 5; ++i) root = root.sqrt();
  auto result = root;
  for (int i = 1; i < power; ++i) result = result * root;
  return result;
}

/// atol + rtol size. Positive, so that a component which is 0, and has no error, does not become 0 / 0.
at::Tensor tolerance_of(const at::Tensor& size, const OdeOptions& options) {
  return (size * options.rtol() + options.atol()).clamp_min(std::numeric_limits<float>::min());
}

double epsilon_of(const at::Tensor& state) {
  return state.scalar_type() == at::kFloat ? std::numeric_limits<float>::epsilon()
                                           : std::numeric_limits<double>::epsilon();
}

}  // namespace

at::Tensor largest(const at::Tensor& rows) { return rows.detach().abs().amax(1, /*keepdim=*/true).to(at::kDouble); }

at::Tensor derivative_of(const OdeFunction& function, const at::Tensor& time, const at::Tensor& state,
                         const char* caller) {
  auto derivative = function(time.to(state.scalar_type()), state);
  TORCH_CHECK(
      derivative.defined(), caller,
      ": expected the right-hand side to return dy/dt, got an undefined tensor; return one of the state's shape");
  TORCH_CHECK(derivative.sizes() == state.sizes() && derivative.scalar_type() == state.scalar_type() &&
                  derivative.device() == state.device(),
              caller, ": expected the right-hand side to return ", state.sizes(), " ", state.scalar_type(), " on ",
              state.device(), ", got ", derivative.sizes(), " ", derivative.scalar_type(), " on ", derivative.device(),
              "; dy/dt has the shape, type and device of the state");
  return derivative;
}

OdeStep dormand_prince_step(const OdeFunction& function, const at::Tensor& time, const at::Tensor& length,
                            const at::Tensor& state, const at::Tensor& derivative, const char* caller) {
  const auto h = length.to(state.scalar_type());  // [rows, 1]
  std::vector<at::Tensor> slopes{derivative};     // [rows, d] each
  at::Tensor next;
  for (int stage = 1; stage < kStages; ++stage) {
    next = state + h * weighted_sum(slopes, kWeights[stage]);
    slopes.push_back(derivative_of(function, time + length * kTimes[stage], next, caller));
  }
  return {next, slopes.back(), h * weighted_sum(slopes, kErrorWeights)};
}

at::Tensor relative_error(const OdeStep& step, const at::Tensor& length, const at::Tensor& state,
                          const at::Tensor& derivative, bool to_rest, const OdeOptions& options) {
  const auto tolerance = tolerance_of(at::maximum(state.abs(), step.state.abs()), options);
  auto error = largest(step.error / tolerance);  // [rows, 1]
  if (to_rest) {
    // Rounding of the state is allowed for, or the last steps would be rejected for it.
    const auto allowed =
        at::maximum(length * largest(derivative) * kLargestErrorToRest, largest(step.state) * epsilon_of(state));
    error = at::maximum(error, largest(step.error) / allowed.clamp_min(std::numeric_limits<double>::min()));
  }
  const auto is_finite = at::isfinite(error).logical_and(at::isfinite(largest(step.state)));
  return at::where(is_finite, error, std::numeric_limits<double>::infinity());
}

at::Tensor length_factor(const at::Tensor& error, const at::Tensor& last_error) {
  // The exponents 5/32 and 2/32 are near those that Hairer and Wanner recommend for a pair of the orders 5 and 4.
  const auto smallest = error.clamp_min(1e-10);
  return (kSafety * power_of_32nd_root(last_error, 2) / power_of_32nd_root(smallest, 5))
      .clamp(kLeastFactor, kLargestFactor);
}

at::Tensor first_length(const OdeFunction& function, const at::Tensor& time, const at::Tensor& state,
                        const at::Tensor& derivative, const OdeOptions& options, const char* caller) {
  const auto tolerance = tolerance_of(state.abs(), options);
  const auto size = largest(state / tolerance), speed = largest(derivative / tolerance);  // [rows, 1]
  // A step of Euler's method that changes the state by about a hundredth.
  const auto is_small = size.lt(1e-5).logical_or(speed.lt(1e-5));
  const auto trial = at::where(is_small, 1e-6, size * 0.01 / speed).clamp_max(options.max_step());
  const auto moved = state + trial.to(state.scalar_type()) * derivative;
  const auto change = derivative_of(function, time + trial, moved, caller) - derivative;
  const auto bend = at::maximum(speed, largest(change / tolerance) / trial);
  // (0.01 / bend)^(1/5) in Hairer's rule: a fifth is close to 6/32.
  const auto length =
      at::where(bend.le(1e-15), (trial * 1e-3).clamp_min(1e-6), power_of_32nd_root(0.01 / bend.clamp_min(1e-15), 6));
  const auto chosen = at::minimum(trial * 100, length);
  return at::where(at::isfinite(chosen), chosen, trial).clamp_max(options.max_step());
}

}  // namespace hopfield::core
