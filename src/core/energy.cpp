#include "core/mask.h"
#include <hopfield/core/energy.h>

#include <ATen/ATen.h>

#include <limits>

namespace hopfield::core {

at::Tensor energy(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Masks& masks) {
  const auto mask = make_score_mask(stored, masks);
  return energy_from_logsumexp(logsumexp(scores(state, stored, beta, mask), mask), state, stored, beta, mask);
}

at::Tensor energy_from_logsumexp(const at::Tensor& logsumexp, const at::Tensor& state, const at::Tensor& stored,
                                 const at::Tensor& beta, const ScoreMask& mask) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (stored.sym_size(-2) == 0) return at::full_like(logsumexp, infinity);
  auto squared_norms = stored.pow(2).sum(-1).unsqueeze(-2);                  // [N or 1, H or 1, 1, S]
  auto count = at::scalar_tensor(stored.sym_size(-2), logsumexp.options());  // [] or [N, H, L]
  if (mask.excluded.defined()) {
    squared_norms = squared_norms.masked_fill(mask.excluded, 0.0);
    count = mask.excluded.bitwise_not().sum(-1).to(logsumexp.dtype());
  }
  // The values of dead rows are replaced first: otherwise the NaN of inf - inf would reach the gradient of beta.
  const auto finite = mask.dead.defined() ? logsumexp.masked_fill(mask.dead.squeeze(-1), 0.0) : logsumexp;
  const auto beta_of_row = beta.dim() == 0 ? beta : beta.squeeze(-1);  // [] or [H, 1]
  const auto result = (count.clamp_min(1).log() - finite) / beta_of_row +
                      0.5 * (state.pow(2).sum(-1) + squared_norms.amax(-1));  // [N, H, L]
  return mask.dead.defined() ? result.masked_fill(mask.dead.squeeze(-1), infinity) : result;
}

}  // namespace hopfield::core
