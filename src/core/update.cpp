#include "core/masks_checks.h"
#include <hopfield/core/update.h>

#include <ATen/ATen.h>

#include <limits>
#include <vector>

namespace hopfield::detail {

void check_not_causal(const char* function, const Masks& masks) {
  TORCH_CHECK(!masks.is_causal, function,
              ": expected is_causal to be false, got true: causal masks are not built yet; give an association_mask "
              "[L, S] that is true above the diagonal");
}

}  // namespace hopfield::detail

namespace hopfield::core {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

}  // namespace

Mask make_mask(const at::Tensor& stored, const Masks& masks) {
  hopfield::detail::check_not_causal("hopfield::core", masks);
  at::Tensor bias, excluded;
  const auto widened = [&](at::Tensor keys) {
    while (keys.dim() < stored.dim()) keys = keys.unsqueeze(-2);
    return keys;
  };
  if (masks.padding_mask.defined()) excluded = widened(masks.padding_mask);
  if (const auto& mask = masks.association_mask; mask.defined()) {
    if (mask.scalar_type() == at::kBool) {
      excluded = excluded.defined() ? excluded.logical_or(mask) : mask;
    } else {
      bias = mask;
    }
  }
  if (masks.key_bias.defined()) {
    const auto more = widened(masks.key_bias);
    bias = bias.defined() ? bias + more : more;
  }
  return make_mask(stored, bias, excluded);
}

at::Tensor shared_matmul(const at::Tensor& x, const at::Tensor& y) {
  if (x.dim() != 4 || y.dim() != 4) return at::matmul(x, y);
  // SymInts: torch.compile may not know the sizes yet.
  const auto batch = x.sym_size(0), heads = x.sym_size(1), rows = x.sym_size(2), depth = x.sym_size(3),
             columns = y.sym_size(3);
  const bool batch_shared = y.sym_size(0) == 1 && batch != 1;
  const bool heads_shared = y.sym_size(1) == 1 && heads != 1;
  if (batch_shared && (heads_shared || heads == 1)) {
    const auto product = at::matmul(x.reshape_symint({batch * heads * rows, depth}), y[0][0]);
    return product.view_symint({batch, heads, rows, columns});
  }
  if (heads_shared) {
    const auto product = at::matmul(x.reshape_symint({batch, heads * rows, depth}), y.squeeze(1));
    return product.view_symint({batch, heads, rows, columns});
  }
  if (batch_shared) {
    const auto by_head = x.transpose(0, 1).reshape_symint({heads, batch * rows, depth});
    return at::matmul(by_head, y.squeeze(0)).view_symint({heads, batch, rows, columns}).transpose(0, 1);
  }
  return at::matmul(x, y);
}

Mask make_mask(const at::Tensor& stored, at::Tensor bias, at::Tensor excluded, at::Tensor poisoned) {
  if (bias.defined()) {
    const auto infinite = at::isneginf(bias.detach());
    bias = bias.masked_fill(infinite, 0.0);
    excluded = excluded.defined() ? excluded.bitwise_or(infinite) : infinite;
  }
  at::Tensor dead;
  if (stored.sym_size(-2) == 0) {
    dead = at::ones(std::vector<int64_t>(stored.dim(), 1), stored.options().dtype(at::kBool));
  } else if (excluded.defined()) {
    dead = excluded.all(-1, /*keepdim=*/true);
  }
  return {bias, excluded, poisoned, dead};
}

at::Tensor scores(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Mask& mask) {
  auto result = shared_matmul(state * beta, stored.transpose(-2, -1));  // [N, H, L, S]
  if (mask.poisoned.defined()) result = result.masked_fill(mask.poisoned, std::numeric_limits<double>::quiet_NaN());
  if (mask.bias.defined()) result = result + mask.bias;
  if (mask.excluded.defined()) result = result.masked_fill(mask.excluded, kMinusInfinity);
  return result;
}

at::Tensor association(const at::Tensor& scores, const Mask& mask) {
  if (!mask.dead.defined()) return at::softmax(scores, -1);
  // -inf - (-inf) is NaN: a dead row's scores are replaced before the softmax, so that its gradient is zero too.
  return at::softmax(scores.masked_fill(mask.dead, 0.0), -1).masked_fill(mask.dead, 0.0);
}

at::Tensor logsumexp(const at::Tensor& scores, const Mask& mask) {
  if (!mask.dead.defined()) return at::logsumexp(scores, {-1});
  return at::logsumexp(scores.masked_fill(mask.dead, 0.0), {-1}).masked_fill(mask.dead.squeeze(-1), kMinusInfinity);
}

at::Tensor update(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const Mask& mask) {
  const auto next = shared_matmul(association(scores(state, stored, beta, mask), mask), stored);  // [N, H, L, d]
  return mask.dead.defined() ? at::where(mask.dead, state, next) : next;
}

at::Tensor iterate(at::Tensor state, const at::Tensor& stored, const at::Tensor& beta, int64_t steps,
                   const Mask& mask) {
  if (steps <= 0) return state.clone();  // a result of its own, as after updates
  for (int64_t step = 0; step < steps; ++step) state = update(state, stored, beta, mask);
  return state;
}

}  // namespace hopfield::core
