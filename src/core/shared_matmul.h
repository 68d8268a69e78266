#pragma once

#include <ATen/core/Tensor.h>

namespace hopfield::core {

/// The matrix product x y, in which the leading dimensions of y broadcast. at::matmul copies y for each batch and head
/// of x; here the rows of x that meet the same matrix of y form one product instead.
///
/// @param x  [N, H, L, k]
/// @param y  [N or 1, H or 1, k, m]
/// @return   [N, H, L, m]
///
/// Other numbers of dimensions go to at::matmul as they are.
at::Tensor shared_matmul(const at::Tensor& x, const at::Tensor& y);

}  // namespace hopfield::core
