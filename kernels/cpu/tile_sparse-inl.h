// Associations most of whose weights are zero: candidates, weights, and sums over them alone.
// Compiled by tile_ops.cpp, once for each instruction set.

#include "kernels/cpu/tile_ops.h"
#include "kernels/cpu/tile_scores-inl.h"
#include "kernels/cpu/tile_vector-inl.h"

#include <hwy/contrib/math/math-inl.h>

#if defined(HOPFIELD_TILE_SPARSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOPFIELD_TILE_SPARSE_INL_H_
#undef HOPFIELD_TILE_SPARSE_INL_H_
#else
#define HOPFIELD_TILE_SPARSE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace hopfield::kernels {
namespace HWY_NAMESPACE {

using Wide = hn::CappedTag<double, kPadding / 2>;
using VW = hn::Vec<Wide>;
constexpr Wide kWide;
constexpr int64_t kWideLanes = hn::MaxLanes(Wide());
constexpr hn::Rebind<float, Wide> kNarrow;
constexpr hn::RebindToUnsigned<D> kKeyTag;

HWY_INLINE VW load_wide(const float* from) { return hn::PromoteTo(kWide, hn::LoadU(kNarrow, from)); }

void biased_scores(const ScoreTile& t, float* largest) {
  const V excluded = hn::Set(kTag, -kInfinity);
  for (int64_t i = 0; i < t.rows; ++i) {
    float* HWY_RESTRICT s = t.scores + i * t.row_stride;
    const float* mask = t.mask != nullptr ? t.mask + i * t.mask_stride : nullptr;
    V most = excluded, nan = hn::Zero(kTag);
    for (int64_t j = 0; j < t.keys; j += kLanes) {
      V value = biased(hn::LoadU(kTag, s + j), t.key_bias, mask, j);
      if (t.keys - j < kLanes) value = hn::IfThenElse(lanes_below(t.keys - j), value, excluded);
      hn::StoreU(value, kTag, s + j);
      const auto is_nan = hn::IsNaN(value);
      nan = hn::Add(nan, hn::IfThenElseZero(is_nan, value));
      most = hn::Max(most, hn::IfThenElse(is_nan, excluded, value));
    }
    largest[i] = hn::GetLane(hn::MaxOfLanes(kTag, most)) + hn::GetLane(hn::SumOfLanes(kTag, nan));
  }
}

int64_t select_scores(const float* scores, int64_t count, float above, uint32_t first, float* selected,
                      uint32_t* keys) {
  const V bound = hn::Set(kTag, above);
  int64_t found = 0;
  for (int64_t j = 0; j < count; j += kLanes) {
    const V value = hn::LoadU(kTag, scores + j);
    auto chosen = hn::Gt(value, bound);
    if (count - j < kLanes) chosen = hn::And(chosen, lanes_below(count - j));
    if (hn::AllFalse(kTag, chosen)) continue;
    const auto numbers = hn::Iota(kKeyTag, first + static_cast<uint32_t>(j));
    hn::StoreU(hn::Compress(value, chosen), kTag, selected + found);
    hn::StoreU(hn::Compress(numbers, hn::RebindMask(kKeyTag, chosen)), kKeyTag, keys + found);
    found += static_cast<int64_t>(hn::CountTrue(kTag, chosen));
  }
  return found;
}

int64_t keep_scores(float* scores, uint32_t* keys, int64_t count, float above) {
  const V bound = hn::Set(kTag, above);
  int64_t found = 0;
  for (int64_t j = 0; j < count; j += kLanes) {
    const V value = hn::LoadU(kTag, scores + j);
    const auto numbers = hn::LoadU(kKeyTag, keys + j);
    auto chosen = hn::Gt(value, bound);
    if (count - j < kLanes) chosen = hn::And(chosen, lanes_below(count - j));
    hn::StoreU(hn::Compress(value, chosen), kTag, scores + found);
    hn::StoreU(hn::Compress(numbers, hn::RebindMask(kKeyTag, chosen)), kKeyTag, keys + found);
    found += static_cast<int64_t>(hn::CountTrue(kTag, chosen));
  }
  return found;
}

// The exponent p = 1 / (alpha - 1) of a weight [1 + z / c]_+^p. For sparsemax it is 1 and for alpha = 1.5 it is 2: no
// logarithm is taken there. Each gives u^p and u^(p - 1) of u = 1 + z / c > 0.
struct FirstPower {
  template <typename Tag, typename Vector>
  HWY_INLINE void operator()(Tag tag, Vector ratio, Vector& power, Vector& slope) const {
    slope = hn::Set(tag, 1);
    power = hn::Add(slope, ratio);
  }
};

struct SecondPower {
  template <typename Tag, typename Vector>
  HWY_INLINE void operator()(Tag tag, Vector ratio, Vector& power, Vector& slope) const {
    slope = hn::Add(hn::Set(tag, 1), ratio);
    power = hn::Mul(slope, slope);
  }
};

struct AnyPower {
  double exponent;
  template <typename Tag, typename Vector>
  HWY_INLINE void operator()(Tag tag, Vector ratio, Vector& power, Vector& slope) const {
    const auto p = hn::Set(tag, static_cast<hn::TFromD<Tag>>(exponent));
    power = hn::Exp(tag, hn::Mul(p, hn::Log1p(tag, ratio)));
    slope = hn::Div(power, hn::Add(hn::Set(tag, 1), ratio));
  }
};

/// Calls `run` with the power that alpha stands for.
template <typename Run>
HWY_INLINE void with_power(double alpha, const Run& run) {
  if (alpha == 2) {
    run(FirstPower());
  } else if (alpha == 1.5) {
    run(SecondPower());
  } else {
    run(AnyPower{1 / (alpha - 1)});
  }
}

/// What a score has to do with the root c.
struct Ratio {
  VW largest, scale, minus_one, inverse;
  Ratio(float most, double alpha, double c)
      : largest(hn::Set(kWide, static_cast<double>(most))),
        scale(hn::Set(kWide, alpha - 1)),
        minus_one(hn::Set(kWide, -1.0)),
        inverse(hn::Set(kWide, 1 / c)) {}

  /// z = (alpha - 1) (t - largest).
  HWY_INLINE VW z(const float* scores) const { return hn::Mul(scale, hn::Sub(load_wide(scores), largest)); }
  /// z / c. Behind the last candidate, and where the weight is 0, `inside` is false and the ratio 0.
  HWY_INLINE VW operator()(VW z, int64_t left, hn::Mask<Wide>& inside) const {
    const VW ratio = hn::Mul(z, inverse);
    inside = hn::And(hn::Gt(ratio, minus_one), hn::Gt(z, minus_one));
    if (left < kWideLanes) inside = hn::And(inside, hn::FirstN(kWide, static_cast<size_t>(left)));
    return hn::IfThenElseZero(inside, ratio);
  }
};

PowerSums power_sums(const float* scores, int64_t count, float largest, double alpha, double c) {
  PowerSums sums{};
  with_power(alpha, [&](const auto& power_of) {
    const Ratio ratio_of(largest, alpha, c);
    VW total = hn::Zero(kWide), slopes = hn::Zero(kWide);
    for (int64_t j = 0; j < count; j += kWideLanes) {
      hn::Mask<Wide> inside;
      const VW ratio = ratio_of(ratio_of.z(scores + j), count - j, inside);
      VW power, slope;
      power_of(kWide, ratio, power, slope);
      total = hn::Add(total, hn::IfThenElseZero(inside, power));
      slopes = hn::Add(slopes, hn::IfThenElseZero(inside, slope));
    }
    sums = {hn::GetLane(hn::SumOfLanes(kWide, total)), hn::GetLane(hn::SumOfLanes(kWide, slopes))};
  });
  return sums;
}

PowerSums rough_power_sums(const float* scores, int64_t count, float largest, double alpha, double c) {
  const AnyPower power_of{1 / (alpha - 1)};
  const V most = hn::Set(kTag, largest), minus_one = hn::Set(kTag, -1.0f);
  const V scale = hn::Set(kTag, static_cast<float>((alpha - 1) / c));
  V total = hn::Zero(kTag), slopes = hn::Zero(kTag);
  for (int64_t j = 0; j < count; j += kLanes) {
    const V ratio = hn::Mul(scale, hn::Sub(hn::LoadU(kTag, scores + j), most));
    auto inside = hn::Gt(ratio, minus_one);
    if (count - j < kLanes) inside = hn::And(inside, lanes_below(count - j));
    V power, slope;
    power_of(kTag, hn::IfThenElseZero(inside, ratio), power, slope);
    total = hn::Add(total, hn::IfThenElseZero(inside, power));
    slopes = hn::Add(slopes, hn::IfThenElseZero(inside, slope));
  }
  return {hn::GetLane(hn::SumOfLanes(kTag, total)), hn::GetLane(hn::SumOfLanes(kTag, slopes))};
}

WeightSums sparse_weights(float* scores, int64_t count, float largest, double alpha, double c) {
  WeightSums sums{};
  with_power(alpha, [&](const auto& power_of) {
    const Ratio ratio_of(largest, alpha, c);
    VW total = hn::Zero(kWide), with_score = hn::Zero(kWide);
    for (int64_t j = 0; j < count; j += kWideLanes) {
      hn::Mask<Wide> inside;
      const VW z = ratio_of.z(scores + j);
      const VW ratio = ratio_of(z, count - j, inside);
      VW power, slope;
      power_of(kWide, ratio, power, slope);
      power = hn::IfThenElseZero(inside, power);
      total = hn::Add(total, power);
      with_score = hn::Add(with_score, hn::IfThenElseZero(inside, hn::Mul(power, z)));
      hn::StoreU(hn::DemoteTo(kNarrow, power), kNarrow, scores + j);
    }
    sums.sum = hn::GetLane(hn::SumOfLanes(kWide, total));
    sums.mean = hn::GetLane(hn::SumOfLanes(kWide, with_score)) / sums.sum;
    const VW inverse = hn::Set(kWide, 1 / sums.sum);
    for (int64_t j = 0; j < count; j += kWideLanes) {
      hn::StoreU(hn::DemoteTo(kNarrow, hn::Mul(load_wide(scores + j), inverse)), kNarrow, scores + j);
    }
  });
  return sums;
}

void sparse_slopes(const float* weights, int64_t count, double alpha, float* slopes) {
  const VW exponent = hn::Set(kWide, 2 - alpha);
  for (int64_t j = 0; j < count; j += kWideLanes) {
    VW y = load_wide(weights + j);
    if (count - j < kWideLanes)
      y = hn::IfThenElse(hn::FirstN(kWide, static_cast<size_t>(count - j)), y, hn::Set(kWide, 1.0));
    const VW slope = alpha == 2     ? hn::Set(kWide, 1.0)
                     : alpha == 1.5 ? hn::Sqrt(y)
                                    : hn::Exp(kWide, hn::Mul(exponent, hn::Log(kWide, y)));
    hn::StoreU(hn::DemoteTo(kNarrow, slope), kNarrow, slopes + j);
  }
}

template <int Vectors>
HWY_INLINE void weighted_part(const float* weights, const float* const* rows, int64_t count, int64_t at,
                              float* target) {
  V sum[Vectors];
#pragma GCC unroll 8
  for (int j = 0; j < Vectors; ++j) sum[j] = hn::Zero(kTag);
  for (int64_t i = 0; i < count; ++i) {
    const V weight = hn::Set(kTag, weights[i]);
    const float* row = rows[i] + at;
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) sum[j] = hn::MulAdd(weight, hn::LoadU(kTag, row + j * kLanes), sum[j]);
  }
#pragma GCC unroll 8
  for (int j = 0; j < Vectors; ++j) {
    hn::StoreU(hn::Add(hn::LoadU(kTag, target + at + j * kLanes), sum[j]), kTag, target + at + j * kLanes);
  }
}

void add_weighted(const float* weights, const float* const* rows, int64_t count, int64_t width, float* target) {
  int64_t at = 0;
  for (; at + 4 * kLanes <= width; at += 4 * kLanes) weighted_part<4>(weights, rows, count, at, target);
  for (; at < width; at += kLanes) weighted_part<1>(weights, rows, count, at, target);
}

void add_zero_times(const float* rows, int64_t row, int64_t count, int64_t width, float* sums) {
  const V zero = hn::Zero(kTag);
  for (int64_t k = 0; k < width; k += kLanes) {
    V total = hn::LoadU(kTag, sums + k), other = zero;
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
      total = hn::MulAdd(zero, hn::LoadU(kTag, rows + i * row + k), total);
      other = hn::MulAdd(zero, hn::LoadU(kTag, rows + (i + 1) * row + k), other);
    }
    if (i < count) total = hn::MulAdd(zero, hn::LoadU(kTag, rows + i * row + k), total);
    hn::StoreU(hn::Add(total, other), kTag, sums + k);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hopfield::kernels
HWY_AFTER_NAMESPACE();

#endif
