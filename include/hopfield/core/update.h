#pragma once

#include <hopfield/core/masks.h>

#include <ATen/core/Tensor.h>

/// The mathematics of one association, as pure functions on tensors of any floating dtype: the only definition of it in
/// this library. Shapes below are written for four dimensions; functions without broadcast patterns accept any number
/// of leading dimensions.
///
/// Source: Ramsauer et al., "Hopfield Networks is All You Need", ICLR 2021, equations (1) to (5).
namespace hopfield::core {

/// Which stored patterns a state may attend to. Undefined tensors restrict nothing; each broadcasts to [N, H, L, S].
/// The last dimension is always S. Made by make_mask().
struct Mask {
  /// Finite, added to the scores.
  at::Tensor bias;
  /// True: never attended to.
  at::Tensor excluded;
  /// True: the stored pattern is not finite and was replaced by zeros; a state that may attend to it becomes NaN.
  at::Tensor poisoned;
  /// [.., 1], true: the state may attend to nothing. It is never updated, and what it retrieves is zero.
  at::Tensor dead;
};

/// @param stored    [.., S, d], of which S matters: nothing can be attended to where S = 0
/// @param bias      added to the scores, -inf excludes
/// @param excluded  bool, true excludes
/// @param poisoned  bool, see Mask
Mask make_mask(const at::Tensor& stored, at::Tensor bias = {}, at::Tensor excluded = {}, at::Tensor poisoned = {});

/// The masks of a call on `stored` [N or 1, H or 1, S, d], [N, S, d] or [S, d]: a padding mask and a key bias have the
/// dimensions [N, S] or [S], an association mask those of the scores, or [L, S].
Mask make_mask(const at::Tensor& stored, const Masks& masks);

/// x y with broadcasting of y's leading dimensions, without ever expanding y in memory: a dimension in which y is
/// constant joins the rows of x.
///
/// @param x  [N, H, L, k]
/// @param y  [N or 1, H or 1, k, m]
/// @return   [N, H, L, m]
at::Tensor shared_matmul(const at::Tensor& x, const at::Tensor& y);

/// beta xi K^T with the mask applied: excluded entries are -inf.
///
/// @param state   xi [N, H, L, d]
/// @param stored  K [N or 1, H or 1, S, d]
/// @param beta    [] or [H, 1, 1]
/// @return        [N, H, L, S]
at::Tensor scores(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Mask& mask = {});

/// softmax over the stored patterns. A row that may attend to nothing is all zeros, and so is its gradient.
at::Tensor association(const at::Tensor& scores, const Mask& mask = {});

/// log sum exp over the stored patterns, -inf for a row that may attend to nothing. [N, H, L, S] to [N, H, L].
at::Tensor logsumexp(const at::Tensor& scores, const Mask& mask = {});

/// One update: xi' = softmax(beta xi K^T) K. A state that may attend to nothing stays as it is.
at::Tensor update(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Mask& mask = {});

/// `steps` updates, one after the other.
at::Tensor iterate(at::Tensor state, const at::Tensor& stored, const at::Tensor& beta, int64_t steps,
                   const Mask& mask = {});

}  // namespace hopfield::core
