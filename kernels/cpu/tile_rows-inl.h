// What is done with rows: moved, packed, normalised, combined.
// Compiled by tile_ops.cpp, once for each instruction set.

#include "kernels/cpu/tile_ops.h"
#include "kernels/cpu/tile_vector-inl.h"

#if defined(HOPFIELD_TILE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOPFIELD_TILE_ROWS_INL_H_
#undef HOPFIELD_TILE_ROWS_INL_H_
#else
#define HOPFIELD_TILE_ROWS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace hopfield::kernels {
namespace HWY_NAMESPACE {

HWY_INLINE float widen(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  __builtin_memcpy(&value, &word, sizeof value);
  return value;
}

HWY_INLINE uint16_t narrow(float value) {
  uint32_t word;
  __builtin_memcpy(&word, &value, sizeof word);
  if (value != value) return static_cast<uint16_t>((word >> 16) | 0x40);
  return static_cast<uint16_t>((word + 0x7FFF + ((word >> 16) & 1)) >> 16);  // to nearest, ties to even
}

HWY_INLINE void copy(const float* from, int64_t width, float* to) {
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) hn::StoreU(hn::LoadU(kTag, from + k), kTag, to + k);
  for (; k < width; ++k) to[k] = from[k];
}

void load(const void* source, ElementType type, int64_t stride, int64_t rows, int64_t width, float* target) {
  const auto padded_width = padded(width);
  for (int64_t i = 0; i < rows; ++i) {
    float* HWY_RESTRICT out = target + i * padded_width;
    if (type == ElementType::float32) {
      copy(static_cast<const float*>(source) + i * stride, width, out);
    } else {
      const uint16_t* HWY_RESTRICT in = static_cast<const uint16_t*>(source) + i * stride;
      for (int64_t k = 0; k < width; ++k) out[k] = widen(in[k]);
    }
    for (int64_t k = width; k < padded_width; ++k) out[k] = 0.0f;
  }
}

/// Sum over a row of `term(vector)`, in four sums side by side so that additions need not wait for each other.
template <typename Term>
HWY_INLINE float sum_row(const float* x, int64_t width, const Term& term) {
  V sums[4] = {hn::Zero(kTag), hn::Zero(kTag), hn::Zero(kTag), hn::Zero(kTag)};
  int64_t k = 0;
  for (; k + 4 * kLanes <= width; k += 4 * kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sums[j] = hn::Add(sums[j], term(hn::LoadU(kTag, x + k + j * kLanes)));
  }
  for (; k + kLanes <= width; k += kLanes) sums[0] = hn::Add(sums[0], term(hn::LoadU(kTag, x + k)));
  float total = hn::GetLane(hn::SumOfLanes(kTag, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
  if (k < width) {
    float rest[kPadding] = {};
    for (int64_t i = k; i < width; ++i) rest[i - k] = x[i];
    const V last = hn::IfThenElseZero(lanes_below(width - k), term(hn::LoadU(kTag, rest)));
    total += hn::GetLane(hn::SumOfLanes(kTag, last));
  }
  return total;
}

struct Identity {
  HWY_INLINE V operator()(V x) const { return x; }
};

struct SquaredDistance {
  V from;
  HWY_INLINE V operator()(V x) const {
    const V difference = hn::Sub(x, from);
    return hn::Mul(difference, difference);
  }
};

void moments(const float* rows, int64_t row, int64_t count, int64_t width, float eps, float* moments) {
  const float part = 1.0f / static_cast<float>(width);
  for (int64_t i = 0; i < count; ++i) {
    const float* x = rows + i * row;
    const float mean = sum_row(x, width, Identity()) * part;
    const float variance = sum_row(x, width, SquaredDistance{hn::Set(kTag, mean)}) * part;
    moments[2 * i] = mean;
    moments[2 * i + 1] = 1.0f / __builtin_sqrtf(variance + eps);
  }
}

void normalize(const float* rows, int64_t row, int64_t count, int64_t width, const float* moments, float* target) {
  const auto padded_width = padded(width);
  for (int64_t i = 0; i < count; ++i) {
    const float* x = rows + i * row;
    float* y = target + i * padded_width;
    const V mean = hn::Set(kTag, moments[2 * i]), scale = hn::Set(kTag, moments[2 * i + 1]);
    int64_t k = 0;
    for (; k + kLanes <= width; k += kLanes)
      hn::StoreU(hn::Mul(hn::Sub(hn::LoadU(kTag, x + k), mean), scale), kTag, y + k);
    for (; k < width; ++k) y[k] = (x[k] - moments[2 * i]) * moments[2 * i + 1];
    for (; k < padded_width; ++k) y[k] = 0.0f;
  }
}

void normalize_gradient(const float* normalized, int64_t count, int64_t width, const float* moments, float* gradient,
                        int64_t gradient_row) {
  const auto padded_width = padded(width);
  const float part = 1.0f / static_cast<float>(width);
  for (int64_t i = 0; i < count; ++i) {
    const float* y = normalized + i * padded_width;
    float* g = gradient + i * gradient_row;
    V sum = hn::Zero(kTag), product = hn::Zero(kTag);
    for (int64_t k = 0; k < padded_width; k += kLanes) {
      const V value = hn::LoadU(kTag, g + k);
      sum = hn::Add(sum, value);
      product = hn::MulAdd(value, hn::LoadU(kTag, y + k), product);
    }
    const V mean = hn::Set(kTag, hn::GetLane(hn::SumOfLanes(kTag, sum)) * part);
    const V along = hn::Set(kTag, hn::GetLane(hn::SumOfLanes(kTag, product)) * part);
    const V scale = hn::Set(kTag, moments[2 * i + 1]);
    for (int64_t k = 0; k < padded_width; k += kLanes) {
      const V value = hn::NegMulAdd(hn::LoadU(kTag, y + k), along, hn::Sub(hn::LoadU(kTag, g + k), mean));
      hn::StoreU(hn::Mul(value, scale), kTag, g + k);
    }
  }
}

void store(const float* source, int64_t source_row, int64_t rows, int64_t width, void* target, ElementType type,
           int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* HWY_RESTRICT in = source + i * source_row;
    if (type == ElementType::float32) {
      copy(in, width, static_cast<float*>(target) + i * stride);
    } else {
      uint16_t* HWY_RESTRICT out = static_cast<uint16_t*>(target) + i * stride;
      for (int64_t k = 0; k < width; ++k) out[k] = narrow(in[k]);
    }
  }
}

void pack_transposed(const float* source, int64_t source_row, int64_t rows, int64_t width, float* target,
                     int64_t panel_row) {
  for (int64_t first = 0; first < rows; first += panel_row) {
    const auto count = rows - first < panel_row ? rows - first : panel_row;
    float* HWY_RESTRICT out = target + first * width;
    const float* HWY_RESTRICT in = source + first * source_row;
    // Sixteen columns at a time: their cache lines are read once and the lines written stay near.
    for (int64_t k0 = 0; k0 < width; k0 += 16) {
      const auto k1 = k0 + 16 < width ? k0 + 16 : width;
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t k = k0; k < k1; ++k) out[k * panel_row + i] = in[i * source_row + k];
      }
    }
    for (int64_t k = 0; k < width; ++k) {
      for (int64_t i = count; i < panel_row; ++i) out[k * panel_row + i] = 0.0f;
    }
  }
}

void scale(float* y, const float* x, float a, int64_t width) {
  const V by = hn::Set(kTag, a);
  for (int64_t k = 0; k < width; k += kLanes) hn::StoreU(hn::Mul(hn::LoadU(kTag, x + k), by), kTag, y + k);
}

void divide(float* y, float divisor, int64_t width) {
  const V by = hn::Set(kTag, divisor);
  for (int64_t k = 0; k < width; k += kLanes) hn::StoreU(hn::Div(hn::LoadU(kTag, y + k), by), kTag, y + k);
}

void combine(float* y, float a, const float* x, float b, int64_t width) {
  const V va = hn::Set(kTag, a), vb = hn::Set(kTag, b);
  for (int64_t k = 0; k < width; k += kLanes) {
    const V value = hn::MulAdd(vb, hn::LoadU(kTag, x + k), hn::Mul(va, hn::LoadU(kTag, y + k)));
    hn::StoreU(value, kTag, y + k);
  }
}

float sum(const float* x, int64_t width) {
  V total = hn::Zero(kTag);
  for (int64_t k = 0; k < width; k += kLanes) {
    const V value = hn::LoadU(kTag, x + k);
    total = hn::Add(total, width - k < kLanes ? hn::IfThenElseZero(lanes_below(width - k), value) : value);
  }
  return hn::GetLane(hn::SumOfLanes(kTag, total));
}

float distance(const float* x, const float* y, int64_t width) {
  V squares = hn::Zero(kTag);
  for (int64_t k = 0; k < width; k += kLanes) {
    const V difference = hn::Sub(hn::LoadU(kTag, x + k), hn::LoadU(kTag, y + k));
    squares = hn::MulAdd(difference, difference, squares);
  }
  return __builtin_sqrtf(hn::GetLane(hn::SumOfLanes(kTag, squares)));
}

float inner(const float* x, const float* y, int64_t width) {
  V sum = hn::Zero(kTag);
  for (int64_t k = 0; k < width; k += kLanes) {
    sum = hn::MulAdd(hn::LoadU(kTag, x + k), hn::LoadU(kTag, y + k), sum);
  }
  return hn::GetLane(hn::SumOfLanes(kTag, sum));
}

}  // namespace HWY_NAMESPACE
}  // namespace hopfield::kernels
HWY_AFTER_NAMESPACE();

#endif
