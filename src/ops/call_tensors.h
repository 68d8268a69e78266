#pragma once

#include "ops/transforms.h"
#include <hopfield/ops/pool.h>

#include <array>
#include <type_traits>
#include <utility>

namespace hopfield::detail {

/// Pointers to every tensor of a call in a fixed order, undefined tensors included. Those that may ask for a gradient
/// come first. Code that keeps a call, or tests all its tensors for something, goes through this list, so that none is
/// forgotten.
template <typename Input, typename Settings>
auto tensors_of(Input& input, Settings& settings) {
  using Pointer = decltype(&input.state);
  if constexpr (std::is_same_v<std::remove_const_t<Input>, PoolInput>) {
    return std::array<Pointer, 9>{&input.instances,      &input.state,
                                  &input.weight,         &input.bias,
                                  &settings.beta,        &input.masks.association_mask,
                                  &input.masks.key_bias, &input.masks.padding_mask,
                                  &input.offsets};
  } else {
    static_assert(std::is_same_v<std::remove_const_t<Input>, RetrieveInput>);
    return std::array<Pointer, 9>{&input.state,
                                  &input.stored,
                                  &input.projection,
                                  &settings.beta,
                                  &input.masks.association_mask,
                                  &input.masks.key_bias,
                                  &input.masks.padding_mask,
                                  &input.offsets,
                                  &input.state_offsets};
  }
}

/// The members of an op's result, in the order of its schema. The three behind logsumexp have no gradient.
inline const auto& result_members(const RetrieveResult&) {
  using R = RetrieveResult;
  static constexpr std::pair<const char*, at::Tensor R::*> all[] = {
      {"output", &R::output},     {"state", &R::state},         {"logsumexp", &R::logsumexp}, {"steps", &R::steps},
      {"residual", &R::residual}, {"converged", &R::converged}, {"energy", &R::energy},       {"scores", &R::scores}};
  return all;
}
inline const auto& result_members(const PoolResult&) {
  using R = PoolResult;
  static constexpr std::pair<const char*, at::Tensor R::*> all[] = {
      {"output", &R::output},     {"state", &R::state},         {"logsumexp", &R::logsumexp}, {"steps", &R::steps},
      {"residual", &R::residual}, {"converged", &R::converged}, {"mass", &R::mass},           {"scores", &R::scores}};
  return all;
}

/// Whether autograd follows the tensor.
inline bool wants_gradient(const at::Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

}  // namespace hopfield::detail
