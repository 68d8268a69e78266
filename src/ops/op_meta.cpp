#include "ops/dispatched_op.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

namespace hopfield::detail {
namespace {

using Shape = std::vector<c10::SymInt>;

/// A tensor [N, H, L, width] with heads next to widths in memory, or one of fewer dimensions.
at::Tensor with_merged_heads(const Shape& shape, const at::TensorOptions& options) {
  if (shape.size() < 4) return at::empty_symint(shape, options);
  return at::empty_symint({shape[0], shape[2], shape[1], shape[3]}, options).transpose(1, 2);
}

/// The results of a call. `rows` are the dimensions before the width.
RetrieveResult shapes_of(const Shape& rows, const c10::SymInt& width, const c10::SymInt& depth,
                         const at::Tensor& patterns) {
  const auto options = patterns.options().requires_grad(false);
  const auto numbers = options.dtype(at::toOpMathType(patterns.scalar_type()));
  const auto with = [&](const c10::SymInt& last) {
    auto shape = rows;
    shape.push_back(last);
    return shape;
  };
  RetrieveResult r;
  r.output = with_merged_heads(with(width), options);
  r.state = with_merged_heads(with(depth), options);
  r.logsumexp = at::empty_symint(rows, numbers);
  r.steps = at::empty_symint(rows, options.dtype(at::kLong));
  r.residual = at::empty_symint(rows, numbers);
  r.converged = at::empty_symint(rows, options.dtype(at::kBool));
  return r;
}

/// Scores have the dimensions of the rows and then S; of ragged patterns, `total` in place of N and no S.
at::Tensor scores_of(Shape rows, const c10::SymInt& keys, bool ragged, const at::TensorOptions& options) {
  if (ragged) {
    rows.front() = keys;
  } else {
    rows.push_back(keys);
  }
  return at::empty_symint(rows, options);
}

}  // namespace

at::Tensor regular(const at::Tensor& tensor, bool merges_heads) {
  if (!tensor.defined()) return tensor;
  if (merges_heads && tensor.dim() == 4) return tensor.transpose(1, 2).contiguous().transpose(1, 2);
  return tensor.contiguous();
}

RetrieveResult retrieve_shapes(const RetrieveInput& input, const RetrieveSettings& settings) {
  const auto& state = input.state;
  const auto& values = input.projection.defined() ? input.projection : input.stored;
  const Shape rows(state.sym_sizes().begin(), state.sym_sizes().end() - 1);
  const bool ragged = input.offsets.defined();
  auto r = shapes_of(rows, values.sym_size(-1), state.sym_size(-1), state);
  if (settings.with_energy) r.energy = at::empty_like(r.logsumexp);
  if (settings.with_scores)
    r.scores = scores_of(rows, input.stored.sym_size(ragged ? 0 : -2), ragged, r.logsumexp.options());
  return r;
}

PoolResult pool_shapes(const PoolInput& input, const RetrieveSettings& settings) {
  const auto& y = input.instances;
  const bool ragged = input.offsets.defined();
  const auto bags = ragged ? input.offsets.sym_numel() - 1 : y.sym_size(0);
  const Shape rows{bags, input.state.sym_size(1), input.state.sym_size(2)};
  PoolResult r;
  static_cast<RetrieveResult&>(r) = shapes_of(rows, y.sym_size(-1), input.state.sym_size(3), y);
  r.mass = at::empty_like(r.logsumexp);
  if (settings.with_scores) r.scores = scores_of(rows, y.sym_size(ragged ? 0 : 1), ragged, r.logsumexp.options());
  return r;
}

}  // namespace hopfield::detail
