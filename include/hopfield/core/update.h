#pragma once

#include <hopfield/core/masks.h>
#include <hopfield/core/separation.h>

#include <ATen/core/Tensor.h>

/// The mathematics of one association as pure functions. They take tensors of any floating-point type and can be
/// differentiated by autograd. hopfield::retrieve() computes the same, faster and with a stop rule.
///
///     auto beta = at::scalar_tensor(8.0);
///     auto next = hopfield::core::update(state, stored, beta);                                  // one update
///     auto weights = hopfield::core::association(hopfield::core::scores(next, stored, beta));   // [N, H, L, S]
///
/// Shapes, with N batch, H heads, L states, S stored patterns and d their width:
///
///   state   [N, H, L, d]
///   stored  [N or 1, H or 1, S, d], finite
///   beta    [] or [H, 1, 1]
///   masks   padding mask and key bias [N, S] or [S]; association mask [L, S] or with the dimensions of the scores
///
/// N, or N and H, may be missing in all of them: state [L, d] and stored [S, d].
///
/// A separation other than softmax makes the weights y(beta xi K^T) of the scores; see <hopfield/core/separation.h>. Of
/// entmax(alpha), 1 < alpha <= 2 is asked for.
///
/// Source: Ramsauer et al., "Hopfield Networks is All You Need", ICLR 2021, equations (1) to (5).
namespace hopfield::core {

/// beta xi K^T, and -inf where a state may not attend to a stored pattern. [N, H, L, S]
/// @throws c10::Error if the shapes do not fit.
at::Tensor scores(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Masks& masks = {});

/// The weights y of scores over the stored patterns. A row of nothing but -inf becomes zeros, and its gradient is zero.
/// [N, H, L, S] to [N, H, L, S]
/// @throws c10::Error for a separation that does not exist.
at::Tensor association(const at::Tensor& scores, const Separation& separation = Separation::softmax());

/// The conjugate Omega* of scores over the stored patterns, whose gradient is their association: log sum exp for
/// softmax. A row of nothing but -inf becomes -inf, with every separation, and its gradient is zero. [N, H, L, S] to
/// [N, H, L]
/// @throws c10::Error for a separation that does not exist.
at::Tensor conjugate(const at::Tensor& scores, const Separation& separation);

/// conjugate() of softmax.
at::Tensor logsumexp(const at::Tensor& scores);

/// One update of the states: xi' = y(beta xi K^T) K, where y is the softmax or another separation. A state that may
/// attend to nothing stays as it is. [N, H, L, d]
/// @throws c10::Error as scores(), and for a separation that does not exist.
at::Tensor update(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Masks& masks = {},
                  const Separation& separation = Separation::softmax());

}  // namespace hopfield::core
