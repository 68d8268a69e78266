#pragma once

// Products of a warpgroup's 64 queries with a tile of patterns in shared memory, and the softmax in between.

#include <kernels/cuda/numbers.h>
#include <kernels/cuda/reductions.h>
#include <kernels/cuda/retrieve_warpgroup_stream.h>

#include <cmath>

namespace hopfield::kernels::cuda {

/// What a lane knows of one of its two rows. Registers are scarce, so it is no more than the updates need.
struct GroupRow {
  int64_t row = -1;  ///< of [batch, heads, queries]; negative: there is no such query
  int steps_max = 0, steps = 0;
  float residual = bits_float(0x7FC00000u);
  /// What turns a product into a score in units of log 2, never negative. Where beta is negative, the queries in shared
  /// memory have the opposite sign, so that the largest product always gives the largest score.
  float scale = 0.0f;
  bool negated = false;
  // Of the association at hand.
  float largest = minus_infinity();  ///< product so far
  float sum = 0.0f;                  ///< of exponentials; the lane's own keys, until the association ends

  HOPFIELD_DEVICE void set_beta(float beta) {
    negated = beta < 0.0f;
    scale = fabsf(beta) * kLog2e;
    // A scale of 0 would turn the product -inf, which stands for a key that does not exist, into NaN. A beta that is
    // NaN stays NaN.
    if (scale < 1e-30f) scale = 1e-30f;
  }
  /// Bits that turn a pair of features into the query in shared memory, and back.
  HOPFIELD_DEVICE uint32_t signs() const { return negated ? 0x80008000u : 0u; }
  HOPFIELD_DEVICE bool exists() const { return row >= 0; }
  HOPFIELD_DEVICE bool active(int step) const { return exists() && step < steps_max; }
  /// Whether there was nothing to attend to.
  HOPFIELD_DEVICE bool dead() const { return largest == minus_infinity() && sum == 0.0f; }
  HOPFIELD_DEVICE float largest_score() const { return largest * scale; }
};

/// A lane's scores of a tile, an entry for every 8 keys, and its weights, an entry for every 16.
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

/// Starts the products of the weights with the rows of the same tile, or of a tile of values.
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

/// Excludes the rows of a tile from `keys` on: behind the last pattern, copies fill a tile with zeros.
template <int count>
HOPFIELD_DEVICE void exclude_from(float (&scores)[count][4], int keys) {
  const int own = keys - 2 * (lane_index() % 4);
  HOPFIELD_UNROLL
  for (int i = 0; i < 4 * count; ++i) {
    if (8 * (i / 4) + i % 2 >= own) scores[i / 4][i % 4] = minus_infinity();
  }
}

/// Turns products into exponentials relative to the largest score so far.
/// @param factors  what the sums before have to be multiplied by, since they are relative to the largest score before
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
    // This is rescaling() of scores. It comes last since it is a branch: exponentials behind it would be put off by the
    // assembler, and then the work of the tensor cores would not hide them.
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

/// Rounds the weights. The fragments C of two products are, in the same registers, the fragment A of another one with
/// 16 keys.
template <int count>
HOPFIELD_DEVICE void pack_weights(uint32_t (&weights)[count][4], const float (&scores)[2 * count][4]) {
  HOPFIELD_UNROLL
  for (int i = 0; i < 4 * count; ++i) {
    const auto& columns = scores[i / 4 * 2 + i % 4 / 2];
    weights[i / 4][i % 4] = pack_pair<bfloat16_t>(columns[i % 2 * 2], columns[i % 2 * 2 + 1]);
  }
}

}  // namespace hopfield::kernels::cuda
