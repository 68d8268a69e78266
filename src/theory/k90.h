#pragma once

#include <ATen/core/Tensor.h>

namespace hopfield::theory {

/// The share of a row's sum that k90() asks for. It is 0.9 but for the rounding of sums in float64: without that, 9 of
/// 10 equal weights would not always reach it.
constexpr double kNineTenths = 0.9 * (1 - 1e-12);

/// For each row of weights, which are not negative, the fewest whose sum reaches 0.9 of the row's sum. 0 for rows of
/// nothing but zeros. [.., S] float64 to [..] int64
at::Tensor k90(const at::Tensor& weights);

}  // namespace hopfield::theory
