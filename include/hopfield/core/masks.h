#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace hopfield {

/// Which keys (stored patterns) the queries (state patterns) may attend to. The layers, the ops and the functions of
/// core/ take it. Undefined tensors restrict nothing.
///
/// In the shapes, N is the batch, H the heads, L the queries and S the keys.
struct Masks {
  Masks() = default;
  /// The arguments come in this order, so that {padding_mask} and {{}, association_mask} are masks. (A constructor is
  /// declared because GCC 12 warns of uninitialised members where a struct without one is a member of another struct.)
  Masks(at::Tensor padding, at::Tensor association = {}, at::Tensor bias = {}, bool causal = false)  // NOLINT
      : padding_mask(std::move(padding)),
        association_mask(std::move(association)),
        key_bias(std::move(bias)),
        is_causal(causal) {}

  /// [N, S], or [S] without a batch; bool, true: excluded.
  at::Tensor padding_mask;
  /// Bool (true: excluded) or floating-point (added to the scores). [L, S], or in the ops and core/ [N or 1, H or 1,
  /// L or 1, S], or in the layers [N * H, L, S], where row n * H + h belongs to head h of sample n.
  at::Tensor association_mask;
  /// [N or 1, S], or [total] where the keys are ragged; floating-point, added to every score of its key. -inf excludes
  /// the key.
  at::Tensor key_bias;
  /// Query l attends to the keys 0 .. l only, of its own bag where the keys are ragged. The fused kernels never make a
  /// tensor [L, S] of it and pass over the keys behind a query. Pools, which have no order, refuse it.
  bool is_causal = false;
};

}  // namespace hopfield
