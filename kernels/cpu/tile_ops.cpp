#include "kernels/cpu/tile_ops.h"

// Scalable vectors cannot stand in the arrays of accumulators below; NEON serves those machines.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile_ops.cpp"
// clang-format off
#include <hwy/foreach_target.h>  // first: compiles this file once for each instruction set
#include <hwy/highway.h>
#include "kernels/cpu/tile_products-inl.h"
#include "kernels/cpu/tile_rows-inl.h"
#include "kernels/cpu/tile_scores-inl.h"
#include "kernels/cpu/tile_small-inl.h"
#include "kernels/cpu/tile_sparse-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace hopfield::kernels {
namespace HWY_NAMESPACE {

TileOps operations() {
  TileOps ops;
  ops.target = hwy::TargetName(HWY_TARGET);
  ops.panel = kPanel;
  ops.gemm = gemm;
  ops.dot = dot;
  ops.load = load;
  ops.moments = moments;
  ops.normalize = normalize;
  ops.normalize_gradient = normalize_gradient;
  ops.store = store;
  ops.pack_transposed = pack_transposed;
  ops.exponentials = exponentials;
  ops.association = association;
  ops.association_change = association_change;
  ops.softmax_gradient = softmax_gradient;
  ops.small_association = small_association;
  ops.biased_scores = biased_scores;
  ops.select_scores = select_scores;
  ops.keep_scores = keep_scores;
  ops.power_sums = power_sums;
  ops.rough_power_sums = rough_power_sums;
  ops.sparse_weights = sparse_weights;
  ops.sparse_slopes = sparse_slopes;
  ops.add_weighted = add_weighted;
  ops.add_zero_times = add_zero_times;
  ops.scale = scale;
  ops.divide = divide;
  ops.combine = combine;
  ops.sum = sum;
  ops.distance = distance;
  ops.inner = inner;
  ops.inner_in_order = inner_in_order;
  return ops;
}

}  // namespace HWY_NAMESPACE
}  // namespace hopfield::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hopfield::kernels {

HWY_EXPORT(operations);

const TileOps& tile_ops() {
  static const TileOps ops = HWY_DYNAMIC_DISPATCH(operations)();
  return ops;
}

}  // namespace hopfield::kernels
#endif
