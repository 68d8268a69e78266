#pragma once

#include "core/separate.h"
#include <hopfield/core/masks.h>
#include <hopfield/core/separation.h>

#include <ATen/core/Tensor.h>

// The functions of <hopfield/core/update.h> on a mask that was prepared once for many of them.
namespace hopfield::core {

/// What happens to the scores of a call. Undefined tensors change nothing; each broadcasts to [N, H, L, S], with S as
/// its last dimension.
struct ScoreMask {
  /// Finite numbers that are added to the scores.
  at::Tensor bias;
  /// True where the score becomes -inf.
  at::Tensor excluded;
  /// True where the stored pattern was not finite and zeros stand in its place. A state that may attend to it becomes
  /// NaN.
  at::Tensor poisoned;
  /// [.., 1], true where a state may attend to nothing. It is not updated, and retrieves zeros.
  at::Tensor dead;
};

/// @param stored    [.., S, d]; if S is 0, all states are dead
/// @param bias      added to the scores; entries of -inf exclude
/// @param excluded  bool
/// @param poisoned  bool
ScoreMask make_score_mask(const at::Tensor& stored, at::Tensor bias, at::Tensor excluded, at::Tensor poisoned = {});

/// @param state  [.., L, d]
/// @param masks  in the shapes that <hopfield/core/update.h> describes
ScoreMask make_score_mask(const at::Tensor& state, const at::Tensor& stored, const Masks& masks);

/// What a causal mask excludes: [L, S] bool, true where the key is behind the query.
at::Tensor behind_queries(const c10::SymInt& queries, const c10::SymInt& keys, at::Device device);

at::Tensor scores(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const ScoreMask& mask);
at::Tensor association(const at::Tensor& scores, const ScoreMask& mask, const Separation& separation);
at::Tensor conjugate(const at::Tensor& scores, const ScoreMask& mask, const Separation& separation);
at::Tensor update(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const ScoreMask& mask,
                  const Separation& separation);

/// association() and conjugate(), which share most of their work for some separations.
Separated associate(const at::Tensor& scores, const ScoreMask& mask, const Separation& separation);

/// The energy from conjugate(scores(state, stored, beta, mask), mask, separation), [N, H, L], where that is known
/// already.
at::Tensor energy_from_conjugate(const at::Tensor& conjugate, const at::Tensor& state, const at::Tensor& stored,
                                 const at::Tensor& beta, const ScoreMask& mask, const Separation& separation);

}  // namespace hopfield::core
