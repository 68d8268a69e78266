#pragma once

#include "ops/call_tensors.h"
#include <hopfield/ops/pool.h>

#include <array>
#include <optional>

namespace hopfield::detail {

/// A checked call of either op, with all dimensions. A pool is a retrieval whose stored patterns are the instances
/// [N, 1, S, d_in], or ragged [total, 1, d_in], and whose keys are W y + b.
struct OpCall {
  RetrieveInput input;
  at::Tensor weight = {}, bias = {};         ///< of a pool: W [H, d, d_in], and b [H, d] or undefined
  std::optional<double> normalize_eps = {};  ///< of a pool, see PoolInput
  RetrieveSettings settings = {};
  uint64_t seed = 0;  ///< of the dropout mask

  bool is_pool() const { return weight.defined(); }
  const char* name() const { return is_pool() ? "hopfield::pool" : "hopfield::retrieve"; }
};

/// Every tensor of a call in a fixed order, like tensors_of(input, settings). Those before kDifferentiable may ask for
/// a gradient.
constexpr size_t kDifferentiable = 6;
template <typename Call>
auto tensors_of(Call& call) -> std::array<decltype(&call.weight), 11> {
  auto& in = call.input;
  return {&in.state,
          &in.stored,
          &in.projection,
          &call.weight,
          &call.bias,
          &call.settings.beta,
          &in.masks.association_mask,
          &in.masks.key_bias,
          &in.masks.padding_mask,
          &in.offsets,
          &in.state_offsets};
}

/// Whether autograd follows a tensor of the call.
inline bool needs_gradient(const OpCall& call) {
  return at::GradMode::is_enabled() && (wants_gradient(call.input.state) || wants_gradient(call.input.stored) ||
                                        wants_gradient(call.input.projection) || wants_gradient(call.weight) ||
                                        wants_gradient(call.bias) || wants_gradient(call.settings.beta));
}

/// A pool as a call with all dimensions.
OpCall as_op_call(const PoolInput& input, const RetrieveSettings& settings);

}  // namespace hopfield::detail
