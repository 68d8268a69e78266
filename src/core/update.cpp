#include "core/mask.h"
#include <hopfield/core/update.h>

#include <ATen/ATen.h>

namespace hopfield::core {
namespace {

/// Rows whose scores are all -inf may attend to nothing.
ScoreMask mask_of_scores(const at::Tensor& scores) {
  ScoreMask mask;
  mask.dead = at::isneginf(scores.detach()).all(-1, /*keepdim=*/true);
  return mask;
}

}  // namespace

at::Tensor scores(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Masks& masks) {
  return scores(state, stored, beta, make_score_mask(state, stored, masks));
}

at::Tensor association(const at::Tensor& scores, const Separation& separation) {
  check_separation("hopfield::core::association", separation);
  return association(scores, mask_of_scores(scores), separation);
}

at::Tensor conjugate(const at::Tensor& scores, const Separation& separation) {
  check_separation("hopfield::core::conjugate", separation);
  return conjugate(scores, mask_of_scores(scores), separation);
}

at::Tensor logsumexp(const at::Tensor& scores) { return conjugate(scores, Separation::softmax()); }

at::Tensor update(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Masks& masks,
                  const Separation& separation) {
  check_separation("hopfield::core::update", separation);
  return update(state, stored, beta, make_score_mask(state, stored, masks), separation);
}

}  // namespace hopfield::core
