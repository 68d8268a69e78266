#include "memory/binary_rules.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace hopfield::memory::detail {
namespace {

at::Tensor with_hebb(const at::Tensor& couplings, const at::Tensor& patterns, double sign) {
  return couplings.addmm(patterns.t(), patterns, 1.0, sign);
}

/// Off the diagonal, w_jk + (x_j x_k - x_j h_kj - x_k h_jk) / d is w_jk (1 + 2 / d) + (x_j u_k + u_j x_k) / d with
/// u = x / 2 - W x, where W has no diagonal: h_jk = (W x)_j - w_jk x_k. On it, h_jj = (W x)_j.
at::Tensor with_storkey(const at::Tensor& couplings, const at::Tensor& patterns) {
  const auto neurons = static_cast<double>(patterns.size(1));
  auto weights = couplings.clone();
  auto diagonal = weights.diagonal().clone();
  weights.diagonal().zero_();
  for (int64_t i = 0; i < patterns.size(0); ++i) {
    const auto x = patterns[i];
    const auto u = 0.5 * x - weights.mv(x);
    weights.addmm_(at::stack({x, u}, 1), at::stack({u, x}), 1.0 + 2.0 / neurons, 1.0 / neurons);
    diagonal.add_(weights.diagonal());
    weights.diagonal().zero_();
  }
  weights = 0.5 * (weights + weights.t());  // against rounding: it must be symmetric to the last bit
  weights.diagonal().copy_(diagonal);
  return weights;
}

at::Tensor pseudo_inverse(const at::Tensor& patterns) {
  const auto [left, values, right] = at::linalg_svd(patterns.to(at::kDouble), /*full_matrices=*/false);
  const auto largest = static_cast<double>(std::max(patterns.size(0), patterns.size(1)));
  const auto rounding = largest * std::numeric_limits<double>::epsilon();
  const auto rank = values.gt(values[0] * rounding).sum().item<int64_t>();
  const auto basis = right.narrow(0, 0, rank);  // [rank, d], orthonormal
  const auto projection = basis.t().mm(basis);
  // What is zero but for rounding is zero: otherwise it alone would decide in networks whose neurons feel no field.
  const auto cleaned = projection.masked_fill(projection.abs() <= rounding, 0.0);
  return (0.5 * (cleaned + cleaned.t())).to(patterns.scalar_type());
}

at::Tensor without_diagonal(const BinarySettings& settings, at::Tensor couplings) {
  if (!settings.self_coupling) couplings.diagonal().zero_();
  return couplings;
}

}  // namespace

double unit_of(LearningRule rule, int64_t neurons) {
  return rule == LearningRule::hebb ? 1.0 / static_cast<double>(neurons) : 1.0;
}

at::Tensor learned(const BinarySettings& settings, const at::Tensor& couplings, const at::Tensor& patterns,
                   int64_t before) {
  const auto neurons = patterns.size(1);
  const auto start = before > 0 ? couplings : at::zeros({neurons, neurons}, patterns.options());
  const auto added = patterns.narrow(0, before, patterns.size(0) - before);
  switch (settings.rule) {
    case LearningRule::hebb:
      return without_diagonal(settings, with_hebb(start, added, 1.0));
    case LearningRule::storkey:
      return without_diagonal(settings, with_storkey(start, added));
    case LearningRule::pseudo_inverse:
      return without_diagonal(settings, pseudo_inverse(patterns));
  }
  TORCH_CHECK(false, "hopfield::memory::BinaryNetwork: expected a learning rule of enum class LearningRule");
}

at::Tensor unlearned(const BinarySettings& settings, const at::Tensor& couplings, const at::Tensor& patterns) {
  return without_diagonal(settings, with_hebb(couplings, patterns, -1.0));
}

}  // namespace hopfield::memory::detail
