// Products of tiles.
// Compiled by tile_ops.cpp, once for each instruction set.

#include "kernels/cpu/tile_ops.h"
#include "kernels/cpu/tile_vector-inl.h"

#if defined(HOPFIELD_TILE_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOPFIELD_TILE_PRODUCTS_INL_H_
#undef HOPFIELD_TILE_PRODUCTS_INL_H_
#else
#define HOPFIELD_TILE_PRODUCTS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace hopfield::kernels {
namespace HWY_NAMESPACE {

// Accumulators of the product: kRows x kVectors registers, beside kVectors for B and one for A.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM
constexpr int kVectors = 4;  // of 32 registers
#else
constexpr int kVectors = 2;  // of 16
#endif
constexpr int kRows = 6;
constexpr int64_t kPanel = kVectors * kLanes < kPadding ? kPadding : kVectors * kLanes;

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

// A slice of B of this depth stays in the first-level cache while all rows of A are multiplied with it. Each slice is
// summed by itself and then added to the slices before it, so that errors grow more slowly than in one long sum.
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
    // Where vectors are short, the registers do not hold a whole panel: it is taken in parts.
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

/// Products of Rows queries with Keys keys. With Ahead, the cache lines of `next` are prefetched meanwhile, evenly.
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

}  // namespace HWY_NAMESPACE
}  // namespace hopfield::kernels
HWY_AFTER_NAMESPACE();

#endif
