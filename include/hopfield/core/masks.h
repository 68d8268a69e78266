#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace hopfield {

/// What may be attended to: by the ops, by the layers and by the energy. Undefined tensors restrict nothing. N batch, H
/// heads, L queries (state patterns), S keys (stored patterns).
struct Masks {
  Masks() = default;
  /// In this order, so that {padding_mask} and {{}, association_mask} are masks. (GCC 12 warns of uninitialised members
  /// where a struct without a constructor is a member of another one.)
  Masks(at::Tensor padding, at::Tensor association = {}, at::Tensor bias = {}, bool causal = false)  // NOLINT
      : padding_mask(std::move(padding)),
        association_mask(std::move(association)),
        key_bias(std::move(bias)),
        is_causal(causal) {}

  at::Tensor padding_mask;      ///< [N, S], without a batch dimension [S]; bool, true: excluded
  at::Tensor association_mask;  ///< [L, S], [N * H, L, S] (layers: row n * H + h), [N or 1, H or 1, L or 1, S]
                                ///< (ops); bool (true: excluded) or float (added)
  at::Tensor key_bias;          ///< float, added to every score of a key, -inf excludes: [N or 1, S], ragged [total]
  /// Query l attends to the keys 0 .. l. Not built yet: true is refused.
  bool is_causal = false;
};

}  // namespace hopfield
