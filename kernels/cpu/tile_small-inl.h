// The association of queries with a set of few keys, from the rows in memory to the rows in memory.
// Compiled by tile_ops.cpp, once for each instruction set.

#include "kernels/cpu/tile_ops.h"
#include "kernels/cpu/tile_scores-inl.h"
#include "kernels/cpu/tile_vector-inl.h"

#include <hwy/contrib/math/math-inl.h>

#include <type_traits>

#if defined(HOPFIELD_TILE_SMALL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOPFIELD_TILE_SMALL_INL_H_
#undef HOPFIELD_TILE_SMALL_INL_H_
#else
#define HOPFIELD_TILE_SMALL_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace hopfield::kernels {
namespace HWY_NAMESPACE {

/// Scores of `Keys` keys: scores[j][lane] = sum over k of keys[j][k] * queries[k][lane].
template <int Keys>
HWY_INLINE void small_scores(const float* HWY_RESTRICT queries, const float* HWY_RESTRICT keys, int64_t key_row,
                             int64_t depth, float* HWY_RESTRICT scores) {
  V sums[Keys];
  for (int j = 0; j < Keys; ++j) sums[j] = hn::Zero(kTag);
  for (int64_t k = 0; k < depth; ++k) {
    const V query = hn::LoadU(kTag, queries + k * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < Keys; ++j) sums[j] = hn::MulAdd(hn::Set(kTag, keys[j * key_row + k]), query, sums[j]);
  }
  for (int j = 0; j < Keys; ++j) hn::StoreU(sums[j], kTag, scores + j * kLanes);
}

/// Outputs of `Rows` queries: the columns of two vectors from `values` on, divided by the sums of the weights.
template <int Rows>
HWY_INLINE void small_outputs(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT values, int64_t value_row,
                              int64_t count, const float* sums, bool both, float* output, int64_t output_row) {
  V first[Rows], second[Rows];
  for (int r = 0; r < Rows; ++r) first[r] = second[r] = hn::Zero(kTag);
  for (int64_t j = 0; j < count; ++j) {
    const V a = hn::LoadU(kTag, values + j * value_row);
    const V b = both ? hn::LoadU(kTag, values + j * value_row + kLanes) : hn::Zero(kTag);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const V weight = hn::Set(kTag, weights[j * kLanes + r]);
      first[r] = hn::MulAdd(weight, a, first[r]);
      second[r] = hn::MulAdd(weight, b, second[r]);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    const V by = hn::Set(kTag, sums[r]);
    hn::StoreU(hn::Div(first[r], by), kTag, output + r * output_row);
    if (both) hn::StoreU(hn::Div(second[r], by), kTag, output + r * output_row + kLanes);
  }
}

/// A lane is a query, so that nothing is summed across lanes.
void small_association(const SmallSet& s, float* scratch) {
  float* transposed = scratch;                    // [depth, kLanes]
  float* weights = scratch + s.depth * kPadding;  // [keys, kLanes]
  const hn::RebindToSigned<D> numbers;
  const V excluded = hn::Set(kTag, -kInfinity);
  for (int64_t begin = 0; begin < s.rows; begin += kLanes) {
    const auto rows = s.rows - begin < kLanes ? s.rows - begin : kLanes;
    // The lanes behind the last query repeat it.
    const auto row = hn::Min(hn::Iota(numbers, 0), hn::Set(numbers, static_cast<int32_t>(rows - 1)));
    const auto places = hn::Mul(row, hn::Set(numbers, static_cast<int32_t>(s.query_row)));
    const V beta = hn::Set(kTag, s.beta);
    const float* queries = s.queries + begin * s.query_row;
    for (int64_t k = 0; k < s.depth; ++k) {
      hn::StoreU(hn::Mul(hn::GatherIndex(kTag, queries + k, places), beta), kTag, transposed + k * kLanes);
    }
    int64_t j = 0;
    const auto score = [&](auto count) {
      small_scores<count()>(transposed, s.keys + j * s.key_row, s.key_row, s.depth, weights + j * kLanes);
      j += count();
    };
    while (s.count - j >= 8) score(std::integral_constant<int, 8>());
    if (s.count - j >= 4) score(std::integral_constant<int, 4>());
    while (s.count - j > 0) score(std::integral_constant<int, 1>());

    const V query = hn::Add(hn::ConvertTo(kTag, row), hn::Set(kTag, static_cast<float>(s.first_query + begin)));
    V largest = excluded;
    for (j = 0; j < s.count; ++j) {
      V value = hn::LoadU(kTag, weights + j * kLanes);
      if (s.is_causal) {
        value = hn::IfThenElse(hn::Lt(query, hn::Set(kTag, static_cast<float>(j))), excluded, value);
        hn::StoreU(value, kTag, weights + j * kLanes);
      }
      largest = hn::Max(largest, value);
    }
    const auto has_none = hn::Eq(largest, excluded);
    const V shift = hn::IfThenZeroElse(has_none, largest);
    V sum = hn::Zero(kTag);
    for (j = 0; j < s.count; ++j) {
      const V p = exponential(hn::Sub(hn::LoadU(kTag, weights + j * kLanes), shift));
      hn::StoreU(p, kTag, weights + j * kLanes);
      sum = hn::Add(sum, p);
    }
    // Where there is nothing to attend to, the weights are zero, and so is what they are divided by: 0 / 1 is read out.
    const auto dead = hn::And(has_none, hn::Eq(sum, hn::Zero(kTag)));
    float all[4][kLanes];
    hn::StoreU(largest, kTag, all[0]);
    hn::StoreU(sum, kTag, all[1]);
    hn::StoreU(hn::IfThenElse(dead, excluded, hn::Add(largest, hn::Log(kTag, sum))), kTag, all[2]);
    hn::StoreU(hn::IfThenElse(dead, hn::Set(kTag, 1.0f), sum), kTag, all[3]);
    for (int64_t i = 0; i < rows; ++i) {
      s.largest[begin + i] = all[0][i];
      s.sum[begin + i] = all[1][i];
      s.logsumexp[begin + i] = all[2][i];
    }
    for (int64_t column = 0; column < s.width; column += 2 * kLanes) {
      const bool both = s.width - column > kLanes;
      const auto* values = s.values + column;
      int64_t i = 0;
      for (; i + 4 <= rows; i += 4) {
        small_outputs<4>(weights + i, values, s.value_row, s.count, all[3] + i, both,
                         s.output + (begin + i) * s.output_row + column, s.output_row);
      }
      for (; i < rows; ++i) {
        small_outputs<1>(weights + i, values, s.value_row, s.count, all[3] + i, both,
                         s.output + (begin + i) * s.output_row + column, s.output_row);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hopfield::kernels
HWY_AFTER_NAMESPACE();

#endif
