// From scores to associations and back.
// Compiled by tile_ops.cpp, once for each instruction set.

#include "kernels/cpu/tile_ops.h"
#include "kernels/cpu/tile_vector-inl.h"

#include <hwy/contrib/math/math-inl.h>

#if defined(HOPFIELD_TILE_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOPFIELD_TILE_SCORES_INL_H_
#undef HOPFIELD_TILE_SCORES_INL_H_
#else
#define HOPFIELD_TILE_SCORES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace hopfield::kernels {
namespace HWY_NAMESPACE {

/// exp(x) for x up to about 88, to 2 units in the last place; 0 below the smallest normal number. NaN stays NaN.
HWY_INLINE V exponential(V x) {
  // Adding this number rounds x log2(e) to the integer n in the last bits of the sum, plus the bias of exponents.
  const V magic = hn::Set(kTag, 12582912.0f + 127.0f);
  const V shifted = hn::MulAdd(x, hn::Set(kTag, 1.44269504088896341f), magic);
  const V n = hn::Sub(shifted, magic);
  V r = hn::NegMulAdd(n, hn::Set(kTag, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(kTag, -2.12194440e-4f), r);
  V p = hn::Set(kTag, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(kTag, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(kTag, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(kTag, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(kTag, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(kTag, 5.0000001201e-1f));
  p = hn::MulAdd(hn::Mul(p, r), r, r);  // exp(r) - 1
  const hn::RebindToSigned<D> tag;
  const V power = hn::BitCast(kTag, hn::ShiftLeft<23>(hn::BitCast(tag, shifted)));  // 2^n
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(kTag, -87.33f)), hn::MulAdd(p, power, power));
}

/// One vector of scores with biases.
HWY_INLINE V biased(V value, const float* key_bias, const float* mask, int64_t at) {
  const V excluded = hn::Set(kTag, -kInfinity);
  if (key_bias != nullptr) {
    const V bias = hn::LoadU(kTag, key_bias + at);
    value = hn::IfThenElse(hn::Eq(bias, excluded), excluded, hn::Add(value, bias));
  }
  if (mask != nullptr) {
    const V bias = hn::LoadU(kTag, mask + at);
    value = hn::IfThenElse(hn::Eq(bias, excluded), excluded, hn::Add(value, bias));
  }
  return value;
}

/// Adds the biases to a row of scores, and excludes the lanes behind the last key. @return its largest scores
HWY_INLINE V add_biases(float* HWY_RESTRICT s, int64_t keys, const float* key_bias, const float* mask) {
  const V excluded = hn::Set(kTag, -kInfinity);
  V most[4] = {excluded, excluded, excluded, excluded};
  int64_t j = 0;
  if (key_bias == nullptr && mask == nullptr) {
    // Nothing to write. Four maxima side by side need not wait for each other.
    for (; j + 4 * kLanes <= keys; j += 4 * kLanes) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) most[k] = hn::Max(most[k], hn::LoadU(kTag, s + j + k * kLanes));
    }
  }
  for (; j < keys; j += kLanes) {
    V value = biased(hn::LoadU(kTag, s + j), key_bias, mask, j);
    if (keys - j < kLanes) value = hn::IfThenElse(lanes_below(keys - j), value, excluded);
    hn::StoreU(value, kTag, s + j);
    most[0] = hn::Max(most[0], value);
  }
  return hn::Max(hn::Max(most[0], most[1]), hn::Max(most[2], most[3]));
}

void exponentials(const ScoreTile& t, float* largest, float* sum) {
  for (int64_t i = 0; i < t.rows; ++i) {
    float* HWY_RESTRICT s = t.scores + i * t.row_stride;
    const V most = add_biases(s, t.keys, t.key_bias, t.mask != nullptr ? t.mask + i * t.mask_stride : nullptr);
    largest[i] = hn::GetLane(hn::MaxOfLanes(kTag, most));
    if (largest[i] == -kInfinity) {
      // There is nothing to attend to, unless scores are NaN, which the maximum ignores: the sum shows them.
      V nan = hn::Zero(kTag);
      for (int64_t j = 0; j < t.keys; j += kLanes) {
        const V value = hn::LoadU(kTag, s + j);
        nan = hn::Add(nan, hn::IfThenElseZero(hn::IsNaN(value), value));
        hn::StoreU(hn::IfThenElseZero(hn::IsNaN(value), value), kTag, s + j);
      }
      sum[i] = hn::GetLane(hn::SumOfLanes(kTag, nan));
      continue;
    }
    const V shift = hn::Set(kTag, largest[i]);
    V total = hn::Zero(kTag);
    for (int64_t j = 0; j < t.keys; j += kLanes) {
      const V p = exponential(hn::Sub(hn::LoadU(kTag, s + j), shift));
      hn::StoreU(p, kTag, s + j);
      total = hn::Add(total, p);
    }
    sum[i] = hn::GetLane(hn::SumOfLanes(kTag, total));
  }
}

void association(const ScoreTile& t, const float* largest, const float* sum) {
  const V excluded = hn::Set(kTag, -kInfinity);
  for (int64_t i = 0; i < t.rows; ++i) {
    float* HWY_RESTRICT s = t.scores + i * t.row_stride;
    const float* mask = t.mask != nullptr ? t.mask + i * t.mask_stride : nullptr;
    const bool dead = sum[i] == 0.0f;
    const V shift = hn::Set(kTag, largest[i]), norm = hn::Set(kTag, 1.0f / sum[i]);
    for (int64_t j = 0; j < t.keys; j += kLanes) {
      V value = biased(hn::LoadU(kTag, s + j), t.key_bias, mask, j);
      if (t.keys - j < kLanes) value = hn::IfThenElse(lanes_below(t.keys - j), value, excluded);
      hn::StoreU(dead ? hn::Zero(kTag) : hn::Mul(exponential(hn::Sub(value, shift)), norm), kTag, s + j);
    }
  }
}

void association_change(const ScoreTile& t, const float* delta, const float* before, const float* expected, float* sums,
                        int64_t sums_row) {
  const V excluded = hn::Set(kTag, -kInfinity), most = hn::Set(kTag, 40.0f);  // exp(2 * 40) is a float still
  for (int64_t i = 0; i < t.rows; ++i) {
    const float* HWY_RESTRICT s = t.scores + i * t.row_stride;
    const float* HWY_RESTRICT shift = delta + i * t.row_stride;
    const float* mask = t.mask != nullptr ? t.mask + i * t.mask_stride : nullptr;
    const V norm = hn::Set(kTag, before[i]), mean = hn::Set(kTag, expected[i]);
    V u1 = hn::Zero(kTag), a2 = u1, a2u = u1, a2u2 = u1;
    for (int64_t j = 0; j < t.keys; j += kLanes) {
      V score = biased(hn::LoadU(kTag, s + j), t.key_bias, mask, j);
      if (t.keys - j < kLanes) score = hn::IfThenElse(lanes_below(t.keys - j), score, excluded);
      const V change = hn::LoadU(kTag, shift + j);
      // Behind the last key, `change` is uninitialised memory and may hold NaN.
      const auto is_excluded = hn::Eq(score, excluded);
      const V a = hn::IfThenZeroElse(is_excluded, exponential(hn::Sub(hn::Sub(score, change), norm)));
      const V u = hn::IfThenZeroElse(is_excluded, hn::Expm1(kTag, hn::Min(hn::Sub(change, mean), most)));
      const V au = hn::Mul(a, u);
      u1 = hn::Add(u1, au);
      a2 = hn::MulAdd(a, a, a2);
      a2u = hn::MulAdd(a, au, a2u);
      a2u2 = hn::MulAdd(au, au, a2u2);
    }
    const V all[] = {u1, a2, a2u, a2u2};
    for (int k = 0; k < 4; ++k) sums[k * sums_row + i] += hn::GetLane(hn::SumOfLanes(kTag, all[k]));
  }
}

void softmax_gradient(const float* p, float* dp, int64_t row_stride, int64_t rows, int64_t keys, const float* mean,
                      const float* extra) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* HWY_RESTRICT weights = p + i * row_stride;
    float* HWY_RESTRICT gradient = dp + i * row_stride;
    float subtract = 0.0f;
    if (mean != nullptr) {
      subtract = mean[i];
    } else {
      V sum = hn::Zero(kTag);
      for (int64_t j = 0; j < keys; j += kLanes) {
        V product = hn::Mul(hn::LoadU(kTag, weights + j), hn::LoadU(kTag, gradient + j));
        if (keys - j < kLanes) product = hn::IfThenElseZero(lanes_below(keys - j), product);
        sum = hn::Add(sum, product);
      }
      subtract = hn::GetLane(hn::SumOfLanes(kTag, sum));
    }
    const V shift = hn::Set(kTag, subtract), more = hn::Set(kTag, extra[i]);
    for (int64_t j = 0; j < keys; j += kLanes) {
      const V from_mean = hn::Add(hn::Sub(hn::LoadU(kTag, gradient + j), shift), more);
      hn::StoreU(hn::Mul(hn::LoadU(kTag, weights + j), from_mean), kTag, gradient + j);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hopfield::kernels
HWY_AFTER_NAMESPACE();

#endif
