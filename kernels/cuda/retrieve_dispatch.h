#pragma once

#include <kernels/cuda/numbers.h>
#include <kernels/cuda/retrieve.h>

#include <utility>

namespace hopfield::kernels::cuda {

/// The most features that each of the three kernels of retrieval is compiled for, by the patterns' type. Narrower
/// patterns run there, too: loops end with the call's width, only registers and shared memory are larger than needed.
template <class T>
struct RetrieveRooms;
template <>
struct RetrieveRooms<bfloat16_t> : std::integer_sequence<int, 64, 128, 256> {};
template <>
struct RetrieveRooms<float16_t> : std::integer_sequence<int, 256> {};
template <>
struct RetrieveRooms<float> : std::integer_sequence<int, 128, 256> {};

/// One of them.
template <class T, int room>
struct PatternsOf {
  using Type = T;
  static constexpr int kRoom = room;
};

template <class T, class Run, int room, int... wider>
auto for_patterns_in(std::integer_sequence<int, room, wider...>, int64_t width, const Run& run) {
  if constexpr (sizeof...(wider) > 0) {
    if (width > room) return for_patterns_in<T>(std::integer_sequence<int, wider...>(), width, run);
  }
  return run(PatternsOf<T, room>());
}

/// Calls `run(PatternsOf<..>())` for the call's patterns; returns what it returns.
template <class Run>
auto for_patterns(const RetrieveCall& call, const Run& run) {
  const auto width = call.depth > call.width ? call.depth : call.width;
  switch (call.type) {
    case ElementType::bfloat16:
      return for_patterns_in<bfloat16_t>(RetrieveRooms<bfloat16_t>(), width, run);
    case ElementType::float16:
      return for_patterns_in<float16_t>(RetrieveRooms<float16_t>(), width, run);
    default:
      return for_patterns_in<float>(RetrieveRooms<float>(), width, run);
  }
}

}  // namespace hopfield::kernels::cuda
