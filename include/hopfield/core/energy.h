#pragma once

#include <hopfield/core/masks.h>

#include <ATen/core/Tensor.h>

namespace hopfield::core {

/// Energy of each state in the continuous modern Hopfield network:
///
///     E(xi) = -lse(beta, K xi) + 1/2 xi.xi + log(S) / beta + 1/2 max_i |k_i|^2
///     lse(beta, x) = log(sum_i exp(beta x_i)) / beta
///
/// S and the maximum count the stored patterns that the state may attend to. A state that may attend to none has the
/// energy +inf. An update never raises the energy, and 0 <= E <= 2 max |k_i|^2 for states in the convex hull of the
/// stored patterns. The gradient with respect to the state is xi - update(xi).
///
/// Source: Ramsauer et al. 2021, equation (2), theorem 1.
///
/// @param state   xi [N, H, L, d]
/// @param stored  K [N or 1, H or 1, S, d], finite
/// @param beta    [] or [H, 1, 1], positive
/// @param masks   what the states may attend to, in the shapes of <hopfield/core/update.h>
/// @return        [N, H, L]
/// @throws c10::Error if the masks are causal, or if the shapes do not fit.
at::Tensor energy(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Masks& masks = {});

}  // namespace hopfield::core
