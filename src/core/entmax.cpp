// Entmax. Its weights are computed from z_i = (alpha - 1) (t_i - max t), which is at most 0, as
//
//     y_i = r_i / R,    r_i = [1 + z_i / c]_+^p,    R = sum r,    p = 1 / (alpha - 1),
//
// where c > 0 solves c R^(1 / p) = 1. In terms of the threshold that is c = (alpha - 1) max t - tau, and c^p is the
// largest weight. Written like this the weights sum to 1 whatever is rounded in c, and nothing is lost as alpha comes
// close to 1, where r_i becomes exp(t_i - max t).

#include "core/entmax.h"

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield::core {
namespace {

/// log(1 + z / c) where the weight is positive, and 0 elsewhere.
struct Support {
  at::Tensor logarithms;
  at::Tensor outside;

  /// (1 + z / c)^exponent, and 0 outside.
  at::Tensor power(double exponent) const { return (exponent * logarithms).exp().masked_fill(outside, 0.0); }
};

/// c is at most 1, so that z <= -1 is outside whatever c was rounded to. A score that exceeds the others by the margin
/// then has exactly the weight 1.
Support support_at(const at::Tensor& z, const at::Tensor& c) {
  const auto ratio = z / c;
  const auto inside = ratio.detach().gt(-1).bitwise_and(z.detach().gt(-1));
  const auto outside = inside.bitwise_not();
  return {ratio.masked_fill(outside, 0.0).log1p(), outside};
}

/// One step of Newton's method for the root c of |[c + z]_+|_p - 1 = c R^(1 / p) - 1, a convex function of c that
/// rises.
at::Tensor newton_step(const at::Tensor& z, const at::Tensor& c, double alpha) {
  const auto support = support_at(z, c);
  const auto sum = support.power(1 / (alpha - 1)).sum(-1, /*keepdim=*/true);              // R
  const auto slope = support.power((2 - alpha) / (alpha - 1)).sum(-1, /*keepdim=*/true);  // sum of r^(2 - alpha)
  return c - (c * sum - sum.pow(2 - alpha)) / slope;
}

/// The root for alpha = 2. Each k largest numbers alone have the root (1 - sum z) / k; that of the support is the
/// least.
at::Tensor root_of_sparsemax(const at::Tensor& z) {
  const auto sorted = std::get<0>(z.sort(-1, /*descending=*/true));
  const auto counts = at::ones_like(z).cumsum(-1);
  return ((1 - sorted.cumsum(-1)) / counts).amin(-1, /*keepdim=*/true);
}

/// The root for alpha = 1.5. The k largest numbers are the support if the root of these alone reaches the k-th, and not
/// the next.
at::Tensor root_of_entmax15(const at::Tensor& z) {
  const auto sorted = std::get<0>(z.sort(-1, /*descending=*/true));
  const auto counts = at::ones_like(z).cumsum(-1);
  const auto means = sorted.cumsum(-1) / counts;
  const auto variances = sorted.square().cumsum(-1) / counts - means.square();
  const auto roots = (1 / counts - variances).clamp_min(0).sqrt() - means;
  const auto support = (roots + sorted).gt(0).sum(-1, /*keepdim=*/true).clamp_min(1);
  return roots.gather(-1, support - 1);
}

/// The root for any alpha. f(c) = |[c + z]_+|_p - 1 is convex and rises, and c = 1 is not left of its root, so that
/// Newton's method only falls from there. With the slope s = f'(c), convexity says f(c_next) / f(c) + s_next / s <= 1:
/// each step divides the product f s by 4 at least. That product is at most S^(2 / p) at c = 1, and s is at least 1
/// everywhere, which bounds the steps until f is as small as the last bit.
at::Tensor root_by_newton(const at::Tensor& z, double alpha) {
  constexpr int64_t kManyScores = int64_t{1} << 40;
  const auto scores = static_cast<double>(z.sym_size(-1).maybe_as_int().value_or(kManyScores));
  const double bits = z.scalar_type() == at::kDouble ? 53 : 24;
  const auto steps = static_cast<int64_t>(std::ceil(bits / 2 + (alpha - 1) * std::log2(scores)));
  auto c = at::ones_like(z.narrow(-1, 0, 1));
  for (int64_t step = 0; step < steps; ++step) c = newton_step(z, c, alpha);
  return c;
}

at::Tensor root(const at::Tensor& z, double alpha) {
  if (alpha == 2) return root_of_sparsemax(z);
  if (alpha == 1.5) return root_of_entmax15(z);
  return root_by_newton(z, alpha);
}

}  // namespace

Separated entmax(const at::Tensor& scores, double alpha) {
  const auto largest = scores.detach().amax(-1, /*keepdim=*/true);
  const auto z = ((alpha - 1) * (scores - largest)).clamp_min(-1);
  auto c = root(z.detach(), alpha);
  // c is a constant for autograd up to here. Each step of Newton's method from the root doubles the order of the
  // derivatives that are right: two give the first three.
  for (int step = 0; step < 2; ++step) c = newton_step(z, c, alpha);
  const auto powers = support_at(z, c).power(1 / (alpha - 1));  // r
  const auto sum = powers.sum(-1, /*keepdim=*/true);
  const auto weights = powers / sum;
  // With y_i^(alpha - 1) = c + z_i and c = R^(1 - alpha), the conjugate needs no sum of powers.
  const auto concentration = at::expm1((1 - alpha) * sum.log()) / (1 - alpha);  // (1 - c) / (alpha - 1)
  const auto conjugate = largest + ((weights * z).sum(-1, /*keepdim=*/true) + concentration) / alpha;
  return {weights, at::where(largest.isinf(), largest, conjugate).squeeze(-1)};
}

}  // namespace hopfield::core
