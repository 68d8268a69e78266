#pragma once

#include "kernels/params.h"

#include <cstdint>

namespace hopfield::kernels {

/// Widths of tiles in scratch memory are padded to this many floats (64 bytes); the padding holds zeros.
constexpr int64_t kPadding = 16;
constexpr int64_t padded(int64_t width) { return (width + kPadding - 1) / kPadding * kPadding; }

/// C [rows, columns] = A [rows, depth] B [depth, columns], or += .
///
/// B comes in panels of TileOps::panel columns: element (k, j) stands at b[j / panel * b_panel + k * b_row + j %
/// panel]. Columns are computed up to the next multiple of kPadding: B and C need that much room. Each element of C is
/// summed in the same order of k, whatever the sizes: a row's result depends on that row alone.
struct Gemm {
  int64_t rows, columns, depth;
  const float* a;
  int64_t a_row, a_column;
  const float* b;
  int64_t b_row, b_panel;
  float* c;
  int64_t c_row;
  bool accumulate;
};

/// Scores of a tile: raw products in, and what is added to them.
struct ScoreTile {
  float* scores;  ///< [rows, keys] at a distance of row_stride; room up to a multiple of kPadding
  int64_t row_stride, rows, keys;
  const float* key_bias;  ///< [keys] or null; -inf excludes
  const float* pair;      ///< [rows, keys] at a distance of pair_stride, or null; -inf excludes
  int64_t pair_stride;
};

/// What the kernels do with tiles, compiled for each instruction set.
struct TileOps {
  const char* target;  ///< the instruction set's name
  int64_t panel;       ///< columns of a packed panel, a multiple of kPadding

  void (*gemm)(const Gemm&);
  /// scores [rows, keys] = x [rows, width] y [keys, width]^T for few rows; widths are padded. Memory is slower than
  /// these products: `next`, if not null, are as many rows that will be wanted next, brought into the cache meanwhile.
  void (*dot)(const float* x, int64_t x_row, int64_t rows, const float* y, int64_t y_row, int64_t keys, int64_t width,
              float* scores, int64_t score_row, const float* next, int64_t next_row);
  /// Rows [rows, width] of `type` at a distance of `stride` elements, as float32 at a distance of padded(width).
  void (*load)(const void* source, ElementType type, int64_t stride, int64_t rows, int64_t width, float* target);
  /// Mean and 1 / sqrt(variance + eps) of rows: [count, 2].
  void (*moments)(const float* rows, int64_t row, int64_t count, int64_t width, float eps, float* moments);
  /// Rows minus their mean and times their scale, at a distance of padded(width); in place too.
  void (*normalize)(const float* rows, int64_t row, int64_t count, int64_t width, const float* moments, float* target);
  /// Turns the gradient of normalised rows into that of the rows. The gradient's padding holds zeros.
  void (*normalize_gradient)(const float* normalized, int64_t count, int64_t width, const float* moments,
                             float* gradient, int64_t gradient_row);
  /// The reverse, without the padding.
  void (*store)(const float* source, int64_t source_row, int64_t rows, int64_t width, void* target, ElementType type,
                int64_t stride);
  /// The transposed rows as panels: target[row / panel][width][panel].
  /// Fewer rows than a panel: panel_row columns, padded(rows), in its place.
  void (*pack_transposed)(const float* source, int64_t source_row, int64_t rows, int64_t width, float* target,
                          int64_t panel_row);

  /// Scores become exp(score + bias - largest); `largest` and `sum` [rows] describe them. A row without keys
  /// to attend to: zeros, -inf and 0. NaN shows in the sum.
  void (*exponentials)(const ScoreTile&, float* largest, float* sum);
  /// Scores become exp(score + bias - largest) / sum, the association; a row whose sum is 0: zeros.
  void (*association)(const ScoreTile&, const float* largest, const float* sum);
  /// How an association changes while the scores move by `delta`, laid out like them, to what the tile holds. Adds to
  /// `sums` [4, rows] the sums over keys of a u, a^2, a^2 u and (a u)^2, with a = exp(score + bias - delta - before),
  /// the association before by its logsumexp `before` [rows], and u = expm1(delta - expected), `expected` [rows] being
  /// the mean of delta under a. From
  ///
  ///     p = a (1 + u) / (1 + sum a u)
  ///
  /// follows |p - a|^2 without subtracting numbers that are nearly equal.
  void (*association_change)(const ScoreTile&, const float* delta, const float* before, const float* expected,
                             float* sums, int64_t sums_row);
  /// dp <- p * (dp - mean + extra), with mean [rows] or, if that is null, the sum of p * dp.
  void (*softmax_gradient)(const float* p, float* dp, int64_t row_stride, int64_t rows, int64_t keys, const float* mean,
                           const float* extra);

  /// y <- a * x
  void (*scale)(float* y, const float* x, float a, int64_t width);
  /// y <- y / divisor
  void (*divide)(float* y, float divisor, int64_t width);
  /// y <- a * y + b * x
  void (*combine)(float* y, float a, const float* x, float b, int64_t width);
  float (*sum)(const float* x, int64_t width);
  /// |x - y|_2, widths padded.
  float (*distance)(const float* x, const float* y, int64_t width);
  /// x . y, widths padded.
  float (*inner)(const float* x, const float* y, int64_t width);
  /// x . y, summed like an element of gemm().
  float (*inner_in_order)(const float* x, const float* y, int64_t width);
};

/// The operations for the best instruction set of this machine.
const TileOps& tile_ops();

}  // namespace hopfield::kernels
