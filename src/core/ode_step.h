#pragma once

#include <hopfield/core/ode.h>

#include <ATen/core/Tensor.h>

#include <optional>

/// The steps of the ODE solver. A row's numbers must have the same bits wherever it stands in the batch. The vectorised
/// loops of ATen treat the last rows of a tensor apart, so only operations are used whose results IEEE 754 fixes: sums,
/// products, quotients, maxima and square roots, one at a time. at::add with a factor may be fused, and at::pow is
/// rounded in more than one way.
namespace hopfield::core {

/// One step of each row.
struct OdeStep {
  at::Tensor state;       ///< [rows, d], of order 5
  at::Tensor derivative;  ///< [rows, d], f at `state`, which is the first stage of the next step
  at::Tensor error;       ///< [rows, d], the difference to the embedded solution of order 4
};

/// f(time, state), checked. @throws c10::Error if f does not return a tensor like the state.
at::Tensor derivative_of(const OdeFunction& function, const at::Tensor& time, const at::Tensor& state,
                         const char* caller);

/// A step of Dormand and Prince.
/// @param time, length  [rows, 1] float64
/// @param derivative    f at time and state
OdeStep dormand_prince_step(const OdeFunction& function, const at::Tensor& time, const at::Tensor& length,
                            const at::Tensor& state, const at::Tensor& derivative, const char* caller);

/// The largest error of a step's components in units of the tolerance, [rows, 1] float64; inf if the step is not
/// finite. `to_rest` adds the limit that integrate_to_rest() documents.
at::Tensor relative_error(const OdeStep& step, const at::Tensor& length, const at::Tensor& state,
                          const at::Tensor& derivative, bool to_rest, const OdeOptions& options);

/// The factor between the lengths of this step and of the next, [rows, 1].
/// @param error       relative_error() of this step
/// @param last_error  the same of the last accepted one
at::Tensor length_factor(const at::Tensor& error, const at::Tensor& last_error);

/// A length for the first step, [rows, 1] float64, from one more call of f.
at::Tensor first_length(const OdeFunction& function, const at::Tensor& time, const at::Tensor& state,
                        const at::Tensor& derivative, const OdeOptions& options, const char* caller);

/// The largest |x_i| of each row, [rows, 1] float64. NaN stays NaN.
at::Tensor largest(const at::Tensor& rows);

}  // namespace hopfield::core
