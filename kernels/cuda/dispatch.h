#pragma once

// From what a call says at run time to the templates that kernels are compiled from.

#include <kernels/cuda/numbers.h>
#include <kernels/params.h>

#include <utility>

namespace hopfield::kernels::cuda {

/// Widths that a kernel is compiled for, from the narrowest on.
template <int... widths>
using Widths = std::integer_sequence<int, widths...>;

/// Returns `run(T())` for the C++ type of the patterns.
template <class Run>
auto for_type(ElementType type, const Run& run) {
  switch (type) {
    case ElementType::bfloat16:
      return run(bfloat16_t());
    case ElementType::float16:
      return run(float16_t());
    default:
      return run(float());
  }
}

/// Returns `run(std::integral_constant<int, w>())` for the first of the widths w that is at least `width`, or for the
/// last one.
template <class Run, int first, int... wider>
auto for_width(Widths<first, wider...>, int64_t width, const Run& run) {
  if constexpr (sizeof...(wider) > 0) {
    if (width > first) return for_width(Widths<wider...>(), width, run);
  }
  return run(std::integral_constant<int, first>());
}

}  // namespace hopfield::kernels::cuda
