// The vectors of the tile operations.
// Compiled by tile_ops.cpp, once for each instruction set.

#include "kernels/cpu/tile_ops.h"

#include <limits>

#if defined(HOPFIELD_TILE_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOPFIELD_TILE_VECTOR_INL_H_
#undef HOPFIELD_TILE_VECTOR_INL_H_
#else
#define HOPFIELD_TILE_VECTOR_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace hopfield::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kPadding>;
using V = hn::Vec<D>;
constexpr D kTag;
constexpr int64_t kLanes = hn::MaxLanes(D());
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Lanes of the last vector that count.
HWY_INLINE hn::Mask<D> lanes_below(int64_t count) {
  return hn::FirstN(kTag, static_cast<size_t>(count < kLanes ? count : kLanes));
}

}  // namespace HWY_NAMESPACE
}  // namespace hopfield::kernels
HWY_AFTER_NAMESPACE();

#endif
