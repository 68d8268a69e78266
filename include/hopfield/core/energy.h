#pragma once

#include <hopfield/core/update.h>

#include <ATen/core/Tensor.h>

namespace hopfield::core {

/// Energy of the continuous modern Hopfield network, per state:
///
///     E(xi) = -lse(beta, K xi) + 1/2 xi.xi + log(S) / beta + 1/2 max_i |k_i|^2,   lse(beta, x) = log(sum exp(beta x))
///     / beta
///
/// S and the maximum run over the stored patterns that the state may attend to; a state with none has energy +inf.
/// Updates never raise it, and 0 <= E <= 2 max |k_i|^2 for states in the patterns' hull.
///
/// Source: Ramsauer et al. 2021, equation (2), theorem 1.
///
/// @param state   xi [N, H, L, d]
/// @param stored  K [N or 1, H or 1, S, d]
/// @param beta    [] or [H, 1, 1], positive
/// @param masks   what the states may attend to; see make_mask() for the shapes
/// @return        [N, H, L]
at::Tensor energy(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Masks& masks = {});

/// The same from logsumexp(scores(state, stored, beta, mask), mask) [N, H, L] that is at hand already.
at::Tensor energy_from_logsumexp(const at::Tensor& logsumexp, const at::Tensor& state, const at::Tensor& stored,
                                 const at::Tensor& beta, const Mask& mask = {});

/// Gradient of the energy with respect to the state: xi - softmax(beta xi K^T) K. [N, H, L, d]
at::Tensor energy_gradient(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta,
                           const Masks& masks = {});

}  // namespace hopfield::core
