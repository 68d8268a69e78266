#pragma once

#include <hopfield/core/separation.h>

#include <ATen/core/Tensor.h>

// The functions of a separation, for rows of scores [.., S] that are not all -inf.
namespace hopfield::core {

/// Throws unless the separation is one that exists. The message begins with `function`.
void check_separation(const char* function, const Separation& separation);

/// The weights y of rows of scores, and the conjugate Omega* of each row.
struct Separated {
  at::Tensor weights;    // [.., S]
  at::Tensor conjugate;  // [..]
};

Separated separate(const at::Tensor& scores, const Separation& separation);

/// Each of the two alone, which may take less.
at::Tensor separated_weights(const at::Tensor& scores, const Separation& separation);
at::Tensor separated_conjugate(const at::Tensor& scores, const Separation& separation);

/// Omega* of `count` scores that are all 0. By that much Omega* exceeds the largest score at most. (softmax1: the
/// largest of them and 0.)
at::Tensor conjugate_of_zeros(const at::Tensor& count, const Separation& separation);

/// How weights move when their scores move in a direction [.., S]: the product of the Jacobian of y with the direction.
/// The Jacobian is symmetric and positive semidefinite. Weights that are all zero stay so.
at::Tensor weights_derivative(const at::Tensor& weights, const at::Tensor& direction, const Separation& separation);

}  // namespace hopfield::core
