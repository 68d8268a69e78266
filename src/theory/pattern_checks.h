#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace hopfield::theory {

/// The rows in float64, without gradient. Throws unless they are [rows, d], floating-point and finite, with at least
/// `fewest` rows and one feature. Messages begin with `function` and name the argument `name`.
at::Tensor checked_rows(const char* function, const char* name, const at::Tensor& rows, int64_t fewest);

/// States for the patterns [N, d]: checked_rows() of the same width, on the device of the patterns.
at::Tensor checked_states(const char* function, const char* name, const at::Tensor& states, const at::Tensor& patterns);

/// Throws unless beta is positive and finite. Messages begin with `function`.
void check_beta(const char* function, double beta);

}  // namespace hopfield::theory
