#pragma once

#include <kernels/cuda/dispatch.h>
#include <kernels/cuda/pool_workspace.h>

namespace hopfield::kernels::cuda {

// The widths that the kernels of pooling are compiled for, in tiles of 32 features. Narrower instances run there, too,
// in tiles of fewer instances than would fit. What training and inference need most has kernels of its own.

/// pool_forward.cu, pool_on_chip.cu.
template <class T>
struct PoolForwardTiles : Widths<8, 32> {};
template <>
struct PoolForwardTiles<float16_t> : Widths<32> {};

/// pool_backward.cu.
template <class T>
struct PoolBackwardTiles : Widths<32> {};
template <>
struct PoolBackwardTiles<bfloat16_t> : Widths<8, 32> {};

/// pool_backward_instances.cu.
template <class T>
struct PoolBackwardInstancesTiles : Widths<32> {};

/// Returns `run(number, tiles)` with the call's type and width: T() and a std::integral_constant.
template <template <class> class Tiles, class Run>
auto for_instances(const PoolCall& call, const Run& run) {
  return for_type(call.type, [&](auto number) {
    return for_width(Tiles<decltype(number)>(), pool_padded_width(call) / 32,
                     [&](auto tiles) { return run(number, tiles); });
  });
}

}  // namespace hopfield::kernels::cuda
