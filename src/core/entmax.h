#pragma once

#include "core/separate.h"

#include <ATen/core/Tensor.h>

namespace hopfield::core {

/// entmax(alpha) of rows of scores t: the weights y_i = [(alpha - 1) t_i - tau]_+^(1 / (alpha - 1)), with tau so that
/// they sum to 1, and the conjugate <y, t> + (1 - sum y^alpha) / (alpha (alpha - 1)). sparsemax is entmax(2).
///
/// The threshold is exact up to rounding: it is found by sorting for alpha = 2 and 1.5, and by Newton's method
/// otherwise. Nothing is read back from the device. Autograd differentiates the result as often as it is asked to, by
/// the sparse Jacobian diag(s) - s s^T / sum(s) with s_i = y_i^(2 - alpha) on the support. Scores that are NaN or +inf
/// make their rows NaN as those of softmax; -inf is a weight of 0 without a gradient.
///
/// Sources: Martins and Astudillo 2016 (the threshold of sparsemax); Peters et al. 2019 (that of entmax(1.5), and the
/// Jacobian).
///
/// @param scores  [.., S] of float32 or float64, S at least 1
/// @param alpha   1 < alpha <= 2
Separated entmax(const at::Tensor& scores, double alpha);

}  // namespace hopfield::core
