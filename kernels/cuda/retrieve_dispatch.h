#pragma once

#include <kernels/cuda/dispatch.h>
#include <kernels/cuda/retrieve.h>

#include <algorithm>

namespace hopfield::kernels::cuda {

/// The padded widths that the kernels of retrieval are compiled for. They are few, since each one takes nvcc a minute.
/// Narrower patterns run there, too: loops end with the call's width, but registers and shared memory are those of the
/// padded width. What training and inference need most has kernels of its own.
template <class T>
struct RetrievePaddedWidths : Widths<128, 256> {};
template <>
struct RetrievePaddedWidths<bfloat16_t> : Widths<64, 128, 256> {};
template <>
struct RetrievePaddedWidths<float16_t> : Widths<256> {};

/// Returns `run(number, padded_width)` with the call's type and padded width: T() and a std::integral_constant.
template <class Run>
auto for_patterns(const Call& call, const Run& run) {
  return for_type(call.type, [&](auto number) {
    return for_width(RetrievePaddedWidths<decltype(number)>(), std::max(call.depth, call.width),
                     [&](auto padded_width) { return run(number, padded_width); });
  });
}

}  // namespace hopfield::kernels::cuda
