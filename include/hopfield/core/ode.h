#pragma once

#include <ATen/core/Tensor.h>
#include <torch/arg.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

/// Ordinary differential equations dy/dt = f(t, y) for a batch of states. Each row is a problem of its own, with steps
/// of its own: its result does not depend on the other rows, to the last bit where f itself treats rows one by one.
///
///     auto f = [&](const at::Tensor& time, const at::Tensor& state) { return (state.matmul(weights)).tanh() - state;
///     }; auto later = hopfield::core::integrate(f, state, 0.0, 2.5);                   // later.state at the time 2.5
///     auto rest = hopfield::core::integrate_to_rest(f, state, 1e-8);                // rest.state, where f is nearly 0
///     auto curve = hopfield::core::integrate_at(f, state, {0.0, 0.5, 1.0, 1.5});    // curve.trajectory [4, rows, d]
///
/// The method is the pair of Runge-Kutta formulae of orders 5 and 4 by Dormand and Prince. A step is accepted when the
/// estimated error e of each of its components is within the tolerance:
///
///     |e_i| <= atol + rtol max(|y_i(t)|, |y_i(t + h)|)
///
/// The length h of the next step follows from the errors of the last two (a proportional-integral controller).
///
/// Autograd differentiates the result with respect to the initial state and to all that f is made of. Accepted steps
/// are recorded and rejected ones are not. The lengths of the steps count as constants, so the gradient is that of the
/// steps that were made. Without a gradient, memory does not grow with the number of steps.
///
/// Source: Dormand and Prince, "A family of embedded Runge-Kutta formulae", 1980; Hairer, Norsett and Wanner, "Solving
/// Ordinary Differential Equations I", section II.4; Gustafsson, "Control theoretic techniques for stepsize selection
/// in explicit Runge-Kutta methods", 1991.
namespace hopfield::core {

/// The right-hand side f: time [rows, 1], state [rows, d] to dy/dt [rows, d]. Both arguments have the type of the
/// initial state. Rows that have ended are left out of the next calls, so the number of rows falls. What differs
/// between rows without changing, an input for example, is therefore given as further columns of the state, with the
/// derivative 0. Trial steps are calls without gradient mode: an f that itself calls autograd has to enable it.
using OdeFunction = std::function<at::Tensor(const at::Tensor& time, const at::Tensor& state)>;

struct OdeOptions {
  /// The tolerance relative to the state. Neither tolerance may be negative, nor both 0.
  TORCH_ARG(double, rtol) = 1e-6;
  /// The tolerance where the state is near 0.
  TORCH_ARG(double, atol) = 1e-9;
  /// The length of the first step that is tried. By default it follows from f and its change along a small step.
  TORCH_ARG(std::optional<double>, first_step);
  /// No step is longer, but for a hundredth by which one is stretched to end at a given time.
  TORCH_ARG(double, max_step) = std::numeric_limits<double>::infinity();
  /// Most steps of a row, accepted and rejected ones together.
  TORCH_ARG(int64_t, steps_max) = 10'000;
};

/// Why a row ended before its goal, as a number in OdeResult::failure.
enum class OdeFailure : int8_t {
  none = 0,
  not_finite = 1,      ///< f, or the state, is not finite, however short the step is
  step_underflow = 2,  ///< the tolerance asks for steps that are too short to change the time, as at a singularity
  too_many_steps = 3,  ///< steps_max steps did not suffice
};

/// Times and counts are of each row. A row that failed keeps its last accepted state.
struct OdeResult {
  at::Tensor state;           ///< [rows, d], the last one
  at::Tensor time;            ///< [rows] float64, of `state`
  at::Tensor speed;           ///< [rows], the largest |dy_i/dt| at `state`
  at::Tensor steps_accepted;  ///< [rows] int64
  at::Tensor steps_rejected;  ///< [rows] int64
  at::Tensor converged;       ///< [rows] bool: the end, or rest, was reached
  at::Tensor failure;         ///< [rows] int8, an OdeFailure
  at::Tensor trajectory;      ///< integrate_at() only: [times, rows, d], NaN where a row had failed before
};

/// Integrates from `start` to `end`, which each row's last step reaches exactly.
///
/// @param function  f
/// @param state     y(start) [rows, d], float32 or float64, on any device
/// @param end       at least `start`. To integrate backwards, integrate -f(start - s, y) over s from 0.
/// @throws c10::Error if a shape, type, time or option is not as described. Rows that fail do not throw.
OdeResult integrate(const OdeFunction& function, const at::Tensor& state, double start, double end,
                    const OdeOptions& options = {});

/// As integrate(), from the first of `times` to the last, and returns the states at all of them in `trajectory`. A step
/// ends at each time, so that none of these states is interpolated.
///
/// @param times  at least one, each later than the one before
OdeResult integrate_at(const OdeFunction& function, const at::Tensor& state, const std::vector<double>& times,
                       const OdeOptions& options = {});

/// Integrates each row from the time 0 until it is at rest: max_i |dy_i/dt| <= threshold. Rows at rest from the start
/// make no step.
///
/// The error of a step is also kept below a hundredth of the step's own length, max_i |h dy_i/dt|. Steps therefore come
/// to rest however small the threshold is against the tolerance, down to the rounding of f.
///
/// @param threshold  positive
OdeResult integrate_to_rest(const OdeFunction& function, const at::Tensor& state, double threshold,
                            const OdeOptions& options = {});

}  // namespace hopfield::core
