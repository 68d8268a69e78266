#include "core/mask.h"
#include <hopfield/core/energy.h>

#include <ATen/ATen.h>

#include <limits>

namespace hopfield::core {

at::Tensor energy(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Masks& masks,
                  const Separation& separation) {
  check_separation("hopfield::core::energy", separation);
  const auto mask = make_score_mask(state, stored, masks);
  const auto found = conjugate(scores(state, stored, beta, mask), mask, separation);
  return energy_from_conjugate(found, state, stored, beta, mask, separation);
}

at::Tensor energy_from_conjugate(const at::Tensor& conjugate, const at::Tensor& state, const at::Tensor& stored,
                                 const at::Tensor& beta, const ScoreMask& mask, const Separation& separation) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (stored.sym_size(-2) == 0) return at::full_like(conjugate, infinity);
  auto squared_norms = stored.pow(2).sum(-1).unsqueeze(-2);                  // [N or 1, H or 1, 1, S]
  auto count = at::scalar_tensor(stored.sym_size(-2), conjugate.options());  // [] or [N, H, L]
  if (mask.excluded.defined()) {
    squared_norms = squared_norms.masked_fill(mask.excluded, 0.0);
    count = mask.excluded.bitwise_not().sum(-1).to(conjugate.dtype());
  }
  // The values of dead rows are replaced first: otherwise the NaN of inf - inf would reach the gradient of beta.
  const auto finite = mask.dead.defined() ? conjugate.masked_fill(mask.dead.squeeze(-1), 0.0) : conjugate;
  const auto beta_of_row = beta.dim() == 0 ? beta : beta.squeeze(-1);  // [] or [H, 1]
  const auto result = (conjugate_of_zeros(count.clamp_min(1), separation) - finite) / beta_of_row +
                      0.5 * (state.pow(2).sum(-1) + squared_norms.amax(-1));  // [N, H, L]
  return mask.dead.defined() ? result.masked_fill(mask.dead.squeeze(-1), infinity) : result;
}

}  // namespace hopfield::core
