#include "ops/pool_internal.h"

#include <ATen/ATen.h>

namespace hopfield::detail {

PoolResult pool_composite(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed) {
  const auto heads = input.weight.sym_size(0), depth = input.weight.sym_size(1), width = input.weight.sym_size(2);
  auto call = as_retrieve_input(input);
  // The keys of hidden instances would pass NaN on to the gradient of the weight.
  call = with_hidden_nonfinite_zeroed(std::move(call));
  auto y = call.stored.squeeze(1);
  if (input.normalize_eps) y = at::layer_norm_symint(y, {width}, {}, {}, *input.normalize_eps);
  const auto weight = input.weight.reshape_symint({heads * depth, width}).to(y.scalar_type());
  const auto bias = input.bias.defined() ? input.bias.reshape({-1}).to(y.scalar_type()) : at::Tensor();
  const auto keys = at::linear(y, weight, bias).unflatten_symint(-1, {heads, depth});
  // A column of ones reads the association's sum out.
  const auto values = at::constant_pad_nd(y, {0, 1}, 1.0);
  const bool ragged = input.offsets.defined();
  call.stored = ragged ? keys : keys.transpose(1, 2);
  call.projection = values.unsqueeze(1);
  PoolResult result;
  static_cast<RetrieveResult&>(result) = retrieve_composite(call, settings, seed);
  // Two results of their own; the mass is float32 for half precision, as everything that is no pattern.
  result.mass =
      result.output.select_symint(-1, width).to(result.logsumexp.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  result.output = result.output.narrow_symint(-1, 0, width).clone();
  return result;
}

}  // namespace hopfield::detail
