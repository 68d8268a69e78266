#pragma once

#include "ops/transforms.h"
#include <hopfield/ops/pool.h>

#include <array>
#include <type_traits>

namespace hopfield::detail {

/// Every tensor of a call, in a fixed order, undefined ones too: first those that may ask for a gradient. Whoever keeps
/// a call, or asks something of all its tensors, goes through this list, so that none is forgotten.
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

/// Whether autograd follows the tensor.
inline bool wants_gradient(const at::Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

}  // namespace hopfield::detail
