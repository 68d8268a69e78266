#pragma once

#include <kernels/cuda/numbers.h>
#include <kernels/cuda/pool.h>

namespace hopfield::kernels::cuda {

/// What a kernel for instances is compiled for: their type, and 32 features times `tiles` at most.
template <class T, int tiles>
struct InstancesOf {
  using Type = T;
  static constexpr int kTiles = tiles;
};

template <class T, class Run>
auto for_instances_of(const PoolCall& call, const Run& run) {
  const auto room = pool_room(call.width);
  if (room <= 256) return run(InstancesOf<T, 8>());
  if (room <= 512) return run(InstancesOf<T, 16>());
  return run(InstancesOf<T, 32>());
}

/// `instantiate(T, tiles)` for all of them.
#define HOPFIELD_FOR_ALL_TILES(instantiate, T) instantiate(T, 8) instantiate(T, 16) instantiate(T, 32)
#define HOPFIELD_FOR_ALL_INSTANCES(instantiate)   \
  HOPFIELD_FOR_ALL_TILES(instantiate, bfloat16_t) \
  HOPFIELD_FOR_ALL_TILES(instantiate, float16_t) HOPFIELD_FOR_ALL_TILES(instantiate, float)

/// Calls `run(InstancesOf<..>())` for the call's instances; returns what it returns.
template <class Run>
auto for_instances(const PoolCall& call, const Run& run) {
  switch (call.type) {
    case PoolType::bfloat16:
      return for_instances_of<bfloat16_t>(call, run);
    case PoolType::float16:
      return for_instances_of<float16_t>(call, run);
    default:
      return for_instances_of<float>(call, run);
  }
}

}  // namespace hopfield::kernels::cuda
