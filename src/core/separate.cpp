#include "core/separate.h"

#include "core/entmax.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

namespace hopfield::core {
namespace {

/// The scores with one more, which is 0 and belongs to no pattern.
at::Tensor with_nothing(const at::Tensor& scores) { return at::constant_pad_nd(scores, {0, 1}, 0.0); }

/// Half precision is computed in float32. Rows without a score have no largest one: entmax is no different from softmax
/// there.
bool is_entmax_of_something(const at::Tensor& scores, const Separation& separation) {
  return separation.is_sparse() && scores.sym_size(-1) != 0;
}

Separated entmax_in_precision(const at::Tensor& scores, double alpha) {
  const auto type = scores.scalar_type();
  const auto found = entmax(scores.to(at::toOpMathType(type)), alpha);
  return {found.weights.to(type), found.conjugate.to(type)};
}

}  // namespace

void check_separation(const char* function, const Separation& separation) {
  const auto alpha = separation.alpha();
  TORCH_CHECK(separation.kind() != Separation::Kind::entmax || (alpha > 1 && alpha <= 2), function,
              ": expected the alpha of separation entmax(alpha) to be above 1 and at most 2, got ", alpha,
              "; alpha = 1 is separation softmax, alpha = 2 is sparsemax");
}

Separated separate(const at::Tensor& scores, const Separation& separation) {
  if (is_entmax_of_something(scores, separation)) return entmax_in_precision(scores, separation.alpha());
  return {separated_weights(scores, separation), separated_conjugate(scores, separation)};
}

at::Tensor separated_weights(const at::Tensor& scores, const Separation& separation) {
  if (is_entmax_of_something(scores, separation)) return entmax_in_precision(scores, separation.alpha()).weights;
  if (separation.kind() != Separation::Kind::softmax1) return at::softmax(scores, -1);
  return at::softmax(with_nothing(scores), -1).narrow_symint(-1, 0, scores.sym_size(-1));
}

at::Tensor separated_conjugate(const at::Tensor& scores, const Separation& separation) {
  if (is_entmax_of_something(scores, separation)) return entmax_in_precision(scores, separation.alpha()).conjugate;
  return at::logsumexp(separation.kind() == Separation::Kind::softmax1 ? with_nothing(scores) : scores, {-1});
}

at::Tensor conjugate_of_zeros(const at::Tensor& count, const Separation& separation) {
  if (separation.kind() == Separation::Kind::softmax1) return count.log1p();
  if (!separation.is_sparse()) return count.log();
  const auto alpha = separation.alpha();
  return at::expm1((1 - alpha) * count.log()) / (alpha * (1 - alpha));  // (1 - count^(1 - alpha)) / (alpha (alpha - 1))
}

at::Tensor weights_derivative(const at::Tensor& weights, const at::Tensor& direction, const Separation& separation) {
  // diag(s) - s s^T / sum(s), where s is y for softmax. The weights of softmax1 sum to less than 1: what is missing is
  // the weight of nothing, whose score does not move.
  auto slopes = weights;
  if (separation.is_sparse()) slopes = weights.pow(2 - separation.alpha()).masked_fill(weights.eq(0), 0.0);
  auto mean = (slopes * direction).sum(-1, /*keepdim=*/true);
  if (separation.is_sparse()) {
    const auto total = slopes.sum(-1, /*keepdim=*/true);
    mean = mean / total.masked_fill(total.eq(0), 1.0);
  }
  return slopes * (direction - mean);
}

}  // namespace hopfield::core
