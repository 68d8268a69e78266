#pragma once

#include <hopfield/core/separation.h>

#include <ATen/ATen.h>

namespace hopfield::testing {

/// What retrieve() must give, computed by naive_query() and naive_separate() in float64, independently of the library.
struct NaiveResult {
  at::Tensor output, state, logsumexp, energy, association;  // logsumexp: the conjugate of the separation
};

/// @param state        [N, H, L, d]
/// @param stored       [N, H, S, d]
/// @param projection   [N, H, S, d_v]
/// @param beta         [H]
/// @param bias         [N, H, L, S], added to the scores; -inf excludes
/// @param steps        [N, H, L] updates of each query
NaiveResult naive_retrieve(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& projection,
                           const at::Tensor& beta, const at::Tensor& bias, const at::Tensor& steps,
                           const Separation& separation = Separation::softmax());

/// Largest absolute difference; infinity where shapes differ or only one side is NaN. Equal infinities are equal.
double max_difference(const at::Tensor& a, const at::Tensor& b);

/// The numbers in float64 on the CPU, with 0 for those that are not finite.
at::Tensor finite_part(const at::Tensor& x);

/// The absolute errors in float64 on the CPU, 0 where both numbers are not finite. All are infinite if the two tensors
/// are not finite in the same places or have different sizes.
at::Tensor absolute_errors(const at::Tensor& found, const at::Tensor& reference);

/// Whether shape, dtype and the bytes of every number are the same, NaN included.
bool bitwise_equal(const at::Tensor& a, const at::Tensor& b);

at::Tensor randn(at::IntArrayRef shape, uint64_t seed);

}  // namespace hopfield::testing
