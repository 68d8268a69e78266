#pragma once

#include <kernels/cuda/numbers.h>
#include <kernels/cuda/retrieve.h>

namespace hopfield::kernels::cuda {

/// What a kernel for patterns is compiled for: their type, and the most features.
template <class T, int room>
struct PatternsOf {
  using Type = T;
  static constexpr int kRoom = room;
};

template <class T, class Run>
auto for_patterns_of(const RetrieveCall& call, const Run& run) {
  const auto width = call.depth > call.width ? call.depth : call.width;
  if (width <= 64) return run(PatternsOf<T, 64>());
  if (width <= 128) return run(PatternsOf<T, 128>());
  return run(PatternsOf<T, 256>());
}

/// Calls `run(PatternsOf<..>())` for the call's patterns; returns what it returns.
template <class Run>
auto for_patterns(const RetrieveCall& call, const Run& run) {
  switch (call.type) {
    case ElementType::bfloat16:
      return for_patterns_of<bfloat16_t>(call, run);
    case ElementType::float16:
      return for_patterns_of<float16_t>(call, run);
    default:
      return for_patterns_of<float>(call, run);
  }
}

}  // namespace hopfield::kernels::cuda
