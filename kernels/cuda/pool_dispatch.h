#pragma once

#include <kernels/cuda/numbers.h>
#include <kernels/cuda/pool.h>

#include <utility>

namespace hopfield::kernels::cuda {

/// What the kernels for instances are compiled for: 32 times so many features at most. Narrower instances run there,
/// too, in smaller tiles than they would have room for.
template <int... tiles>
using MostTiles = std::integer_sequence<int, tiles...>;

/// pool_forward.cu, pool_on_chip.cu.
struct PoolForwardTiles {
  using Bfloat16 = MostTiles<8, 32>;
  using Float16 = MostTiles<32>;
  using Float32 = MostTiles<8, 32>;
};
/// pool_backward.cu.
struct PoolBackwardTiles {
  using Bfloat16 = MostTiles<8, 32>;
  using Float16 = MostTiles<32>;
  using Float32 = MostTiles<32>;
};
/// pool_backward_instances.cu.
struct PoolGradientTiles {
  using Bfloat16 = MostTiles<32>;
  using Float16 = MostTiles<32>;
  using Float32 = MostTiles<32>;
};

/// One of them.
template <class T, int tiles>
struct InstancesOf {
  using Type = T;
  static constexpr int kTiles = tiles;
};

template <class T, class Run, int tiles, int... more>
auto for_instances_in(MostTiles<tiles, more...>, int64_t room, const Run& run) {
  if constexpr (sizeof...(more) > 0) {
    if (room > 32 * tiles) return for_instances_in<T>(MostTiles<more...>(), room, run);
  }
  return run(InstancesOf<T, tiles>());
}

/// Calls `run(InstancesOf<..>())` for the call's instances; returns what it returns.
template <class Tiles, class Run>
auto for_instances(const PoolCall& call, const Run& run) {
  const auto room = pool_room(call.width);
  switch (call.type) {
    case PoolType::bfloat16:
      return for_instances_in<bfloat16_t>(typename Tiles::Bfloat16(), room, run);
    case PoolType::float16:
      return for_instances_in<float16_t>(typename Tiles::Float16(), room, run);
    default:
      return for_instances_in<float>(typename Tiles::Float32(), room, run);
  }
}

}  // namespace hopfield::kernels::cuda
