#pragma once

#include <hopfield/core/masks.h>
#include <hopfield/core/separation.h>

#include <ATen/core/Tensor.h>

namespace hopfield::core {

/// Energy of each state in the continuous modern Hopfield network:
///
///     E(xi) = -lse(beta, K xi) + 1/2 xi.xi + log(S) / beta + 1/2 max_i |k_i|^2
///     lse(beta, x) = log(sum_i exp(beta x_i)) / beta
///
/// and with other separations than softmax, whose conjugate function is Omega*,
///
///     E(xi) = -Omega*(beta K xi) / beta + 1/2 xi.xi + Omega*(0) / beta + 1/2 max_i |k_i|^2
///
/// where Omega*(0), of S scores that are all 0, is log(S) for softmax, log(1 + S) for softmax1 and
/// (1 - S^(1 - alpha)) / (alpha (alpha - 1)) for entmax. By that much Omega* exceeds the largest score at most.
///
/// S and the maximum count the stored patterns that the state may attend to. A state that may attend to none has the
/// energy +inf. An update with the same separation never raises the energy, and the gradient with respect to the state
/// is xi - update(xi). Without biases E >= 0 for all states, and E <= 2 max |k_i|^2 for states in the convex hull of
/// the stored patterns.
///
/// Sources: Ramsauer et al. 2021, equation (2), theorem 1; Santos et al. 2025, arXiv:2411.08590.
///
/// @param state       xi [N, H, L, d]
/// @param stored      K [N or 1, H or 1, S, d], finite
/// @param beta        [] or [H, 1, 1], positive
/// @param masks       what the states may attend to, in the shapes of <hopfield/core/update.h>
/// @param separation  that of the updates
/// @return            [N, H, L]
/// @throws c10::Error if the shapes do not fit, or for a separation that does not exist.
at::Tensor energy(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Masks& masks = {},
                  const Separation& separation = Separation::softmax());

}  // namespace hopfield::core
