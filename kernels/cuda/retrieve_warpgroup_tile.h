#pragma once

// Products of a warpgroup's 64 queries with a tile of patterns in shared memory, and the softmax in between.

#include <kernels/cuda/numbers.h>
#include <kernels/cuda/reductions.h>
#include <kernels/cuda/retrieve_warpgroup_stream.h>

#include <cmath>

namespace hopfield::kernels::cuda {

/// What a lane knows of one of its two rows. Registers are scarce: no more than it takes.
struct GroupRow {
  int64_t row = -1;  ///< of [batch, heads, queries]; negative: there is no such query
  int steps_max = 0, steps = 0;
  float residual = bits_float(0x7FC00000u);
  /// From products to scores in units of log 2. Where beta is negative, the queries in shared memory are too, so that
  /// the largest product is the largest score.
  float scale = 0.0f;
  bool negated = false;
  // Of the association at hand.
  float largest = minus_infinity();  ///< product so far
  float sum = 0.0f;                  ///< of exponentials; the lane's own keys, until the association ends

  HOPFIELD_DEVICE void set_beta(float beta) {
    negated = beta < 0.0f;
    scale = fabsf(beta) * kLog2e;
    // Not 0: -inf stands for keys that are not there, and 0 times that is NaN. A beta that is NaN stays so.
    if (scale < 1e-30f) scale = 1e-30f;
  }
  /// What turns a pair of features into its query and back.
  HOPFIELD_DEVICE uint32_t signs() const { return negated ? 0x80008000u : 0u; }
  HOPFIELD_DEVICE bool exists() const { return row >= 0; }
  HOPFIELD_DEVICE bool active(int step) const { return exists() && step < steps_max; }
  /// Nothing to attend to.
  HOPFIELD_DEVICE bool dead() const { return largest == minus_infinity() && sum == 0.0f; }
  HOPFIELD_DEVICE float largest_score() const { return largest * scale; }
};

/// A lane's scores of a tile, 8 keys to an entry, and its weights, 16 keys to an entry.
template <int padded_width>
using GroupScores = float[WarpgroupShared<padded_width>::kKeys / 8][4];
template <int padded_width>
using GroupWeights = uint32_t[WarpgroupShared<padded_width>::kKeys / 16][4];

/// Starts the products of the queries with the stored patterns of a tile.
template <int padded_width>
HOPFIELD_DEVICE void start_scores(GroupScores<padded_width>& scores, const unsigned char* queries,
                                  const unsigned char* tile) {
  using Shared = WarpgroupShared<padded_width>;
  const auto a = tile_operand(queries), b = tile_operand(tile);
  HOPFIELD_UNROLL
  for (int k = 0; k < padded_width / 16; ++k) {
    const int piece = k / 4, bytes = k % 4 * 32;
    multiply_async<TileView::columns>(scores, operand_behind(a, piece * Shared::kQueryPiece + bytes),
                                      operand_behind(b, piece * Shared::kPatternPiece + bytes), k > 0);
  }
  commit_products();
}

/// Starts those of the weights with the rows of the same tile, or of one of values.
template <int padded_width>
HOPFIELD_DEVICE void start_sums(float (&sums)[padded_width / 8][4], const GroupWeights<padded_width>& weights,
                                const unsigned char* tile, bool adds) {
  using Shared = WarpgroupShared<padded_width>;
  const auto b = tile_operand(tile, Shared::kPatternPiece);
  HOPFIELD_UNROLL
  for (int k = 0; k < Shared::kKeys / 16; ++k) {
    multiply_async<TileView::rows>(sums, weights[k], operand_behind(b, k * 16 * kTileRowBytes), adds || k > 0);
  }
  commit_products();
}

/// Excludes the tile's rows from `keys` on, which were copied as zeros.
template <int count>
HOPFIELD_DEVICE void exclude_from(float (&scores)[count][4], int keys) {
  const int own = keys - 2 * (lane_index() % 4);
  HOPFIELD_UNROLL
  for (int i = 0; i < 4 * count; ++i) {
    if (8 * (i / 4) + i % 2 >= own) scores[i / 4][i % 4] = minus_infinity();
  }
}

/// From products to exponentials, and what was summed before has to be multiplied by, being relative to the largest
/// score before.
template <int count>
HOPFIELD_DEVICE void find_weights(float (&scores)[count][4], GroupRow (&rows)[2], float (&factors)[2]) {
  HOPFIELD_UNROLL
  for (int r = 0; r < 2; ++r) {
    auto& row = rows[r];
    float largest = row.largest;
    HOPFIELD_UNROLL
    for (int i = 0; i < 2 * count; ++i) largest = fmaxf(largest, scores[i / 2][2 * r + i % 2]);
    largest = quad_max(largest);
    const float before = row.largest;
    row.largest = largest;
    const float offset = largest == minus_infinity() ? 0.0f : -row.largest_score();
    float sum = 0.0f;
    HOPFIELD_UNROLL
    for (int i = 0; i < 2 * count; ++i) {
      float& weight = scores[i / 2][2 * r + i % 2];
      weight = fast_exp2(fused_multiply_add(weight, row.scale, offset));
      sum += weight;
    }
    // Before the first key there is nothing to scale; -inf must not be subtracted from itself. This comes last: it is a
    // branch, behind which the assembler would put off exponentials that the tensor cores' work should hide.
    factors[r] = before == largest            ? 1.0f
                 : before == minus_infinity() ? 0.0f
                                              : fast_exp2((before - largest) * row.scale);
    row.sum = fused_multiply_add(row.sum, factors[r], sum);
  }
}

template <int count>
HOPFIELD_DEVICE void scale_sums(float (&sums)[count][4], const float (&factors)[2]) {
  HOPFIELD_UNROLL
  for (int i = 0; i < 4 * count; ++i) sums[i / 4][i % 4] *= factors[i / 2 % 2];
}

/// C as products left it is A as products take it, 16 keys at a time.
template <int count>
HOPFIELD_DEVICE void pack_weights(uint32_t (&weights)[count][4], const float (&scores)[2 * count][4]) {
  HOPFIELD_UNROLL
  for (int i = 0; i < 4 * count; ++i) {
    const auto& columns = scores[i / 4 * 2 + i % 4 / 2];
    weights[i / 4][i % 4] = pack_pair<bfloat16_t>(columns[i % 2 * 2], columns[i % 2 * 2 + 1]);
  }
}

}  // namespace hopfield::kernels::cuda
