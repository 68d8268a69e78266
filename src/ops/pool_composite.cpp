#include "ops/nonfinite.h"
#include "ops/op_call.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>

namespace hopfield::detail {

PoolResult pool_composite(const OpCall& pool) {
  const auto heads = pool.weight.sym_size(0), depth = pool.weight.sym_size(1), width = pool.weight.sym_size(2);
  // The keys of hidden instances would pass NaN on to the gradient of the weight.
  auto call = with_hidden_nonfinite_zeroed(pool.input);
  auto y = call.stored.squeeze(1);
  if (pool.normalize_eps) y = at::layer_norm_symint(y, {width}, {}, {}, *pool.normalize_eps);
  const auto weight = pool.weight.reshape_symint({heads * depth, width}).to(y.scalar_type());
  const auto bias = pool.bias.defined() ? pool.bias.reshape({-1}).to(y.scalar_type()) : at::Tensor();
  const auto keys = at::linear(y, weight, bias).unflatten_symint(-1, {heads, depth});
  // A column of ones reads the association's sum out.
  const auto values = at::constant_pad_nd(y, {0, 1}, 1.0);
  const bool ragged = call.offsets.defined();
  call.stored = ragged ? keys : keys.transpose(1, 2);
  call.projection = values.unsqueeze(1);
  PoolResult result;
  static_cast<RetrieveResult&>(result) = retrieve_composite(call, pool.settings, pool.seed);
  // Two results of their own; the mass is float32 for half precision, as everything that is no pattern.
  result.mass =
      result.output.select_symint(-1, width).to(result.logsumexp.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  result.output = result.output.narrow_symint(-1, 0, width).clone();
  return result;
}

}  // namespace hopfield::detail
