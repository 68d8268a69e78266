#include "theory/k90.h"

#include <ATen/ATen.h>

namespace hopfield::theory {

at::Tensor k90(const at::Tensor& weights) {
  if (weights.size(-1) == 0)
    return at::zeros(weights.sizes().slice(0, weights.dim() - 1), weights.options().dtype(at::kLong));
  const auto sums = std::get<0>(weights.sort(-1, /*descending=*/true)).cumsum(-1);
  const auto all = sums.narrow(-1, weights.size(-1) - 1, 1);  // [.., 1]
  const auto missed = (sums < kNineTenths * all).sum(-1);
  return (missed + 1).masked_fill_(all.squeeze(-1) == 0, 0);
}

}  // namespace hopfield::theory
