#pragma once

#include "kernels/params.h"

#include <cstdint>

namespace hopfield::kernels {

/// Widths of tiles in scratch memory are padded to this many floats (64 bytes); the padding holds zeros.
constexpr int64_t kPadding = 16;
constexpr int64_t padded(int64_t width) { return (width + kPadding - 1) / kPadding * kPadding; }

/// The product C [rows, columns] = A [rows, depth] B [depth, columns]; with `accumulate` it is added to C.
///
/// B is stored in panels of TileOps::panel columns: element (k, j) is b[j / panel * b_panel + k * b_row + j % panel].
/// Columns are computed up to the next multiple of kPadding, which B and C must have memory for. Each element of C is
/// summed over k in an order that does not depend on the sizes, so that a row's result depends on that row alone.
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

/// The scores of a tile: the products of queries and keys, and what is added to them.
struct ScoreTile {
  float* scores;  ///< [rows, keys] at a distance of row_stride, which is a multiple of kPadding
  int64_t row_stride, rows, keys;
  const float* key_bias;  ///< [keys] or null; -inf excludes
  const float* mask;      ///< [rows, keys] at a distance of mask_stride, or null; -inf excludes
  int64_t mask_stride;
};

/// Queries [rows, depth] and a set of few keys, with what one association of them gives. Depth and width are multiples
/// of kPadding, and at least one key is there, or there are none and all results are those of nothing to attend to.
struct SmallSet {
  const float* queries;
  int64_t query_row, rows, first_query;  ///< first_query: number of the first row, for the causal mask
  float beta;
  const float* keys;
  int64_t key_row;
  const float* values;
  int64_t value_row, count;
  int64_t depth, width;
  bool is_causal;  ///< query l attends to the keys 0 .. l only
  float* output;
  int64_t output_row;
  float *largest, *sum, *logsumexp;  ///< [rows]
};

/// Sums over the candidates of a row whose weights are r_i / R, r = [1 + z / c]_+^p, p = 1 / (alpha - 1), with
/// z_i = (alpha - 1) (t_i - max t).
struct PowerSums {
  double sum;    ///< R
  double slope;  ///< sum of r^(2 - alpha) over those that are not 0
};

struct WeightSums {
  double sum;   ///< R
  double mean;  ///< sum of r_i z_i / R
};

/// The operations on tiles, compiled for one instruction set.
struct TileOps {
  const char* target;  ///< the instruction set's name
  int64_t panel;       ///< columns of a packed panel, a multiple of kPadding

  void (*gemm)(const Gemm&);
  /// scores [rows, keys] = x [rows, width] y [keys, width]^T for few rows; widths are padded. These products wait for
  /// memory. `next`, if not null, points to as many rows that will be needed next: they are brought into the cache
  /// meanwhile.
  void (*dot)(const float* x, int64_t x_row, int64_t rows, const float* y, int64_t y_row, int64_t keys, int64_t width,
              float* scores, int64_t score_row, const float* next, int64_t next_row);
  /// Rows [rows, width] of `type` at a distance of `stride` elements, as float32 at a distance of padded(width).
  void (*load)(const void* source, ElementType type, int64_t stride, int64_t rows, int64_t width, float* target);
  /// Mean and 1 / sqrt(variance + eps) of rows: [count, 2].
  void (*moments)(const float* rows, int64_t row, int64_t count, int64_t width, float eps, float* moments);
  /// Rows minus their mean and times their scale, written at a distance of padded(width). `target` may be `rows`.
  void (*normalize)(const float* rows, int64_t row, int64_t count, int64_t width, const float* moments, float* target);
  /// Turns the gradient of normalised rows into that of the rows. The gradient's padding holds zeros.
  void (*normalize_gradient)(const float* normalized, int64_t count, int64_t width, const float* moments,
                             float* gradient, int64_t gradient_row);
  /// Stores float32 rows as rows of `type`, the reverse of load(), without padding.
  void (*store)(const float* source, int64_t source_row, int64_t rows, int64_t width, void* target, ElementType type,
                int64_t stride);
  /// Writes the transposed rows as panels: target[row / panel][width][panel]. Where there are fewer rows than a panel
  /// has columns, the only panel has panel_row = padded(rows) columns.
  void (*pack_transposed)(const float* source, int64_t source_row, int64_t rows, int64_t width, float* target,
                          int64_t panel_row);

  /// Turns scores into exp(score + bias - largest), and writes the largest score and the sum of the exponentials of
  /// each row. A row that may attend to no key gets zeros, -inf and 0. A NaN among the scores makes the sum NaN.
  void (*exponentials)(const ScoreTile&, float* largest, float* sum);
  /// Turns scores into the association exp(score + bias - largest) / sum; a row whose sum is 0 gets zeros.
  void (*association)(const ScoreTile&, const float* largest, const float* sum);
  /// How much an association changes when the scores change by `delta` (laid out like them) to what the tile holds.
  ///
  /// Let a = exp(score + bias - delta - before) be the association before, with its logsumexp `before` [rows]; and let
  /// u = expm1(delta - expected), where `expected` [rows] is the mean of delta under a. This adds the sums over keys of
  /// a u, a^2, a^2 u and (a u)^2 to `sums` [4, rows]. The association afterwards is
  ///
  ///     p = a (1 + u) / (1 + sum a u)
  ///
  /// from which |p - a|^2 follows without a subtraction of nearly equal numbers.
  void (*association_change)(const ScoreTile&, const float* delta, const float* before, const float* expected,
                             float* sums, int64_t sums_row);
  /// dp <- p * (dp - mean + extra), with mean [rows] or, if that is null, the sum of p * dp.
  void (*softmax_gradient)(const float* p, float* dp, int64_t row_stride, int64_t rows, int64_t keys, const float* mean,
                           const float* extra);

  /// The softmax of beta times the products of queries and keys, and what it reads out of the values.
  /// @param scratch  (depth + count) * kPadding floats
  void (*small_association)(const SmallSet&, float* scratch);

  // For associations most of whose weights are zero. Lists of scores and of keys have memory for kPadding more entries.
  /// Adds the biases to the scores, and writes the largest score of each row: -inf if all are excluded, NaN if one that
  /// counts is NaN. Behind the last key, the rest of its vector becomes -inf.
  void (*biased_scores)(const ScoreTile&, float* largest);
  /// Lists the scores that are above a bound, and their numbers, which begin with `first`. Returns how many there are.
  int64_t (*select_scores)(const float* scores, int64_t count, float above, uint32_t first, float* selected,
                           uint32_t* keys);
  /// Takes all others off such a list.
  int64_t (*keep_scores)(float* scores, uint32_t* keys, int64_t count, float above);
  /// Sums over a list of scores, of which `largest` is the largest of the row.
  PowerSums (*power_sums)(const float* scores, int64_t count, float largest, double alpha, double c);
  /// The same in float32, for the first steps towards c.
  PowerSums (*rough_power_sums)(const float* scores, int64_t count, float largest, double alpha, double c);
  /// Turns scores into the weights r_i / R.
  WeightSums (*sparse_weights)(float* scores, int64_t count, float largest, double alpha, double c);
  /// weights^(2 - alpha), of weights above 0.
  void (*sparse_slopes)(const float* weights, int64_t count, double alpha, float* slopes);
  /// target [width] += the sum of weights[i] * rows[i][..], width padded.
  void (*add_weighted)(const float* weights, const float* const* rows, int64_t count, int64_t width, float* target);
  /// sums [width] += 0 * each of the rows: columns that hold an infinity or NaN become NaN. The width is padded.
  void (*add_zero_times)(const float* rows, int64_t row, int64_t count, int64_t width, float* sums);

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
