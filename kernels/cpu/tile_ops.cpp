#include "kernels/cpu/tile_ops.h"

#include <limits>

// Scalable vectors cannot stand in the arrays of accumulators below; NEON serves those machines.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile_ops.cpp"
// clang-format off
#include <hwy/foreach_target.h>  // first: compiles this file once for each instruction set
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace hopfield::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kPadding>;
using V = hn::Vec<D>;
constexpr D kTag;
constexpr int64_t kLanes = hn::MaxLanes(D());

// Accumulators of the product: kRows x kVectors registers, beside kVectors for B and one for A.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM
constexpr int kVectors = 4;  // of 32 registers
#else
constexpr int kVectors = 2;  // of 16
#endif
constexpr int kRows = 6;
constexpr int64_t kPanel = kVectors * kLanes < kPadding ? kPadding : kVectors * kLanes;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// One block of C: its rows stay in registers while k runs.
template <int Rows, int Vectors>
HWY_INLINE void block(int64_t depth, const float* HWY_RESTRICT a, int64_t a_row, int64_t a_column,
                      const float* HWY_RESTRICT b, int64_t b_row, float* HWY_RESTRICT c, int64_t c_row,
                      bool accumulate) {
  V sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) {
      sum[i][j] = hn::Zero(kTag);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    V right[Vectors];
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) right[j] = hn::LoadU(kTag, b + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const V left = hn::Set(kTag, a[i * a_row]);
#pragma GCC unroll 8
      for (int j = 0; j < Vectors; ++j) sum[i][j] = hn::MulAdd(left, right[j], sum[i][j]);
    }
    a += a_column;
    b += b_row;
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) {
      float* to = c + i * c_row + j * kLanes;
      hn::StoreU(accumulate ? hn::Add(hn::LoadU(kTag, to), sum[i][j]) : sum[i][j], kTag, to);
    }
  }
}

using Block = void (*)(int64_t, const float*, int64_t, int64_t, const float*, int64_t, float*, int64_t, bool);

template <int Rows, int Vectors>
void block_function(int64_t depth, const float* a, int64_t a_row, int64_t a_column, const float* b, int64_t b_row,
                    float* c, int64_t c_row, bool accumulate) {
  block<Rows, Vectors>(depth, a, a_row, a_column, b, b_row, c, c_row, accumulate);
}

template <int Rows>
Block block_of(int vectors) {
  switch (vectors) {
    case 1:
      return block_function<Rows, 1>;
    case 2:
      return block_function < Rows, kVectors >= 2 ? 2 : 1 > ;
    case 3:
      return block_function < Rows, kVectors >= 3 ? 3 : 1 > ;
    default:
      return block_function<Rows, kVectors>;
  }
}

Block block_of(int rows, int vectors) {
  switch (rows) {
    case 1:
      return block_of<1>(vectors);
    case 2:
      return block_of<2>(vectors);
    case 3:
      return block_of<3>(vectors);
    case 4:
      return block_of<4>(vectors);
    case 5:
      return block_of<5>(vectors);
    default:
      return block_of<kRows>(vectors);
  }
}

// A slice of B this deep stays in the first-level cache while the rows of A pass. It is summed by itself before it is
// added to the slices before it: errors grow more slowly than in one long sum.
constexpr int64_t kDepth = 32;

void gemm(const Gemm& g) {
  const auto columns = padded(g.columns);
  const auto blocks = g.rows < kRows ? 1 : (g.rows + kRows - 1) / kRows;  // of nearly equal height
  if (g.depth == 0 && !g.accumulate) {
    for (int64_t i = 0; i < g.rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) g.c[i * g.c_row + j] = 0.0f;
    }
  }
  for (int64_t panel = 0; panel * kPanel < columns; ++panel) {
    // On narrow targets a panel is more than the registers hold: it is walked in parts.
    const auto panel_end = columns - panel * kPanel < kPanel ? columns - panel * kPanel : kPanel;
    for (int64_t part = 0; part < panel_end; part += kVectors * kLanes) {
      const auto left = (panel_end - part) / kLanes;
      const int vectors = left < kVectors ? static_cast<int>(left) : kVectors;
      const float* b = g.b + panel * g.b_panel + part;
      float* c = g.c + panel * kPanel + part;
      for (int64_t k = 0; k < g.depth; k += kDepth) {
        const auto depth = g.depth - k < kDepth ? g.depth - k : kDepth;
        const bool accumulate = g.accumulate || k > 0;
        const auto height = (g.rows + blocks - 1) / blocks;
        const Block full = block_of(static_cast<int>(height), vectors);
        int64_t i = 0;
        for (; i + height <= g.rows; i += height) {
          full(depth, g.a + i * g.a_row + k * g.a_column, g.a_row, g.a_column, b + k * g.b_row, g.b_row,
               c + i * g.c_row, g.c_row, accumulate);
        }
        if (i < g.rows) {
          block_of(static_cast<int>(g.rows - i), vectors)(depth, g.a + i * g.a_row + k * g.a_column, g.a_row,
                                                          g.a_column, b + k * g.b_row, g.b_row, c + i * g.c_row,
                                                          g.c_row, accumulate);
        }
      }
    }
  }
}

/// Products of Rows queries with Keys keys. Ahead: the lines of `next` are asked for meanwhile, evenly.
template <int Rows, int Keys, bool Ahead>
HWY_INLINE void dot_block(const float* x, int64_t x_row, const float* y, int64_t y_row, int64_t width, float* scores,
                          int64_t score_row, const float* next, int64_t next_row) {
  V sum[Rows][Keys];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Keys; ++j) sum[i][j] = hn::Zero(kTag);
  }
  for (int64_t k = 0; k < width; k += kLanes) {
    V key[Keys];
#pragma GCC unroll 8
    for (int j = 0; j < Keys; ++j) {
      key[j] = hn::LoadU(kTag, y + j * y_row + k);
      if constexpr (Ahead) __builtin_prefetch(next + j * next_row + k, 0, 2);
    }
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const V query = hn::LoadU(kTag, x + i * x_row + k);
#pragma GCC unroll 8
      for (int j = 0; j < Keys; ++j) sum[i][j] = hn::MulAdd(query, key[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Keys; ++j) scores[i * score_row + j] = hn::GetLane(hn::SumOfLanes(kTag, sum[i][j]));
  }
}

template <int Keys>
HWY_INLINE void dot_keys(const float* x, int64_t x_row, int64_t rows, const float* y, int64_t y_row, int64_t width,
                         float* scores, int64_t score_row, const float* next, int64_t next_row) {
  int64_t i = 0;
  if (next != nullptr && rows >= 4) {
    dot_block<4, Keys, true>(x, x_row, y, y_row, width, scores, score_row, next, next_row);
    i = 4;
  }
  for (; i + 4 <= rows; i += 4) {
    dot_block<4, Keys, false>(x + i * x_row, x_row, y, y_row, width, scores + i * score_row, score_row, nullptr, 0);
  }
  for (; i < rows; ++i) {
    dot_block<1, Keys, false>(x + i * x_row, x_row, y, y_row, width, scores + i * score_row, score_row, nullptr, 0);
  }
}

void dot(const float* x, int64_t x_row, int64_t rows, const float* y, int64_t y_row, int64_t keys, int64_t width,
         float* scores, int64_t score_row, const float* next, int64_t next_row) {
  width = padded(width);
  int64_t j = 0;
  for (; j + 4 <= keys; j += 4) {
    dot_keys<4>(x, x_row, rows, y + j * y_row, y_row, width, scores + j, score_row,
                next != nullptr ? next + j * next_row : nullptr, next_row);
  }
  for (; j < keys; ++j) dot_keys<1>(x, x_row, rows, y + j * y_row, y_row, width, scores + j, score_row, nullptr, 0);
}

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

void load(const void* source, Type type, int64_t stride, int64_t rows, int64_t width, float* target) {
  const auto room = padded(width);
  for (int64_t i = 0; i < rows; ++i) {
    float* HWY_RESTRICT out = target + i * room;
    if (type == Type::float32) {
      copy(static_cast<const float*>(source) + i * stride, width, out);
    } else {
      const uint16_t* HWY_RESTRICT in = static_cast<const uint16_t*>(source) + i * stride;
      for (int64_t k = 0; k < width; ++k) out[k] = widen(in[k]);
    }
    for (int64_t k = width; k < room; ++k) out[k] = 0.0f;
  }
}

/// Lanes of the last vector that count.
HWY_INLINE hn::Mask<D> lanes_below(int64_t count) {
  return hn::FirstN(kTag, static_cast<size_t>(count < kLanes ? count : kLanes));
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
  const auto room = padded(width);
  for (int64_t i = 0; i < count; ++i) {
    const float* x = rows + i * row;
    float* y = target + i * room;
    const V mean = hn::Set(kTag, moments[2 * i]), scale = hn::Set(kTag, moments[2 * i + 1]);
    int64_t k = 0;
    for (; k + kLanes <= width; k += kLanes)
      hn::StoreU(hn::Mul(hn::Sub(hn::LoadU(kTag, x + k), mean), scale), kTag, y + k);
    for (; k < width; ++k) y[k] = (x[k] - moments[2 * i]) * moments[2 * i + 1];
    for (; k < room; ++k) y[k] = 0.0f;
  }
}

void normalize_gradient(const float* normalized, int64_t count, int64_t width, const float* moments, float* gradient,
                        int64_t gradient_row) {
  const auto room = padded(width);
  const float part = 1.0f / static_cast<float>(width);
  for (int64_t i = 0; i < count; ++i) {
    const float* y = normalized + i * room;
    float* g = gradient + i * gradient_row;
    V sum = hn::Zero(kTag), product = hn::Zero(kTag);
    for (int64_t k = 0; k < room; k += kLanes) {
      const V value = hn::LoadU(kTag, g + k);
      sum = hn::Add(sum, value);
      product = hn::MulAdd(value, hn::LoadU(kTag, y + k), product);
    }
    const V mean = hn::Set(kTag, hn::GetLane(hn::SumOfLanes(kTag, sum)) * part);
    const V along = hn::Set(kTag, hn::GetLane(hn::SumOfLanes(kTag, product)) * part);
    const V scale = hn::Set(kTag, moments[2 * i + 1]);
    for (int64_t k = 0; k < room; k += kLanes) {
      const V value = hn::NegMulAdd(hn::LoadU(kTag, y + k), along, hn::Sub(hn::LoadU(kTag, g + k), mean));
      hn::StoreU(hn::Mul(value, scale), kTag, g + k);
    }
  }
}

void store(const float* source, int64_t source_row, int64_t rows, int64_t width, void* target, Type type,
           int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* HWY_RESTRICT in = source + i * source_row;
    if (type == Type::float32) {
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

/// exp(x) for x up to about 88, to 2 units in the last place; 0 below the smallest normal number. NaN stays NaN.
HWY_INLINE V exponential(V x) {
  const V n = hn::Round(hn::Mul(x, hn::Set(kTag, 1.44269504088896341f)));
  V r = hn::NegMulAdd(n, hn::Set(kTag, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(kTag, -2.12194440e-4f), r);
  V p = hn::Set(kTag, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(kTag, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(kTag, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(kTag, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(kTag, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(kTag, 5.0000001201e-1f));
  p = hn::Add(hn::MulAdd(hn::Mul(p, r), r, r), hn::Set(kTag, 1.0f));
  const hn::RebindToSigned<D> tag;
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(tag, n), hn::Set(tag, 127)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(kTag, -87.33f)), hn::Mul(p, hn::BitCast(kTag, exponent)));
}

/// One vector of scores with biases.
HWY_INLINE V biased(V value, const float* key_bias, const float* pair, int64_t at) {
  const V excluded = hn::Set(kTag, -kInfinity);
  if (key_bias != nullptr) {
    const V bias = hn::LoadU(kTag, key_bias + at);
    value = hn::IfThenElse(hn::Eq(bias, excluded), excluded, hn::Add(value, bias));
  }
  if (pair != nullptr) {
    const V bias = hn::LoadU(kTag, pair + at);
    value = hn::IfThenElse(hn::Eq(bias, excluded), excluded, hn::Add(value, bias));
  }
  return value;
}

void exponentials(const ScoreTile& t, float* largest, float* sum) {
  const V excluded = hn::Set(kTag, -kInfinity);
  for (int64_t i = 0; i < t.rows; ++i) {
    float* HWY_RESTRICT s = t.scores + i * t.row_stride;
    const float* pair = t.pair != nullptr ? t.pair + i * t.pair_stride : nullptr;
    V most = excluded;
    for (int64_t j = 0; j < t.keys; j += kLanes) {
      V value = biased(hn::LoadU(kTag, s + j), t.key_bias, pair, j);
      if (t.keys - j < kLanes) value = hn::IfThenElse(lanes_below(t.keys - j), value, excluded);
      hn::StoreU(value, kTag, s + j);
      most = hn::Max(most, value);
    }
    largest[i] = hn::GetLane(hn::MaxOfLanes(kTag, most));
    if (largest[i] == -kInfinity) {
      // Nothing to attend to, unless a NaN hides behind the maximum: the sum then shows it.
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
    const float* pair = t.pair != nullptr ? t.pair + i * t.pair_stride : nullptr;
    const bool dead = sum[i] == 0.0f;
    const V shift = hn::Set(kTag, largest[i]), norm = hn::Set(kTag, 1.0f / sum[i]);
    for (int64_t j = 0; j < t.keys; j += kLanes) {
      V value = biased(hn::LoadU(kTag, s + j), t.key_bias, pair, j);
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
    const float* pair = t.pair != nullptr ? t.pair + i * t.pair_stride : nullptr;
    const V norm = hn::Set(kTag, before[i]), mean = hn::Set(kTag, expected[i]);
    V u1 = hn::Zero(kTag), a2 = u1, a2u = u1, a2u2 = u1;
    for (int64_t j = 0; j < t.keys; j += kLanes) {
      V score = biased(hn::LoadU(kTag, s + j), t.key_bias, pair, j);
      if (t.keys - j < kLanes) score = hn::IfThenElse(lanes_below(t.keys - j), score, excluded);
      const V change = hn::LoadU(kTag, shift + j);
      const V a = exponential(hn::Sub(hn::Sub(score, change), norm));
      const V u = hn::IfThenZeroElse(hn::Eq(score, excluded), hn::Expm1(kTag, hn::Min(hn::Sub(change, mean), most)));
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

float inner_in_order(const float* x, const float* y, int64_t width) {
  float total = 0.0f;
  for (int64_t begin = 0; begin < width; begin += kDepth) {
    const auto end = begin + kDepth < width ? begin + kDepth : width;
    const auto one = hn::CappedTag<float, 1>();
    auto sum = hn::Zero(one);
    for (int64_t k = begin; k < end; ++k) sum = hn::MulAdd(hn::LoadU(one, x + k), hn::LoadU(one, y + k), sum);
    total = begin > 0 ? total + hn::GetLane(sum) : hn::GetLane(sum);
  }
  return total;
}

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
