#pragma once

// From products to scores. Element [band][j][2 * half + i] of a lane's fragments, i = 0 or 1, belongs to row 16 band +
// lane / 4 + 8 half of its warp and to key 8 j + 2 (lane % 4) + i of the tile.

#include <kernels/cuda/dropout.h>
#include <kernels/cuda/retrieve_set.h>
#include <kernels/cuda/retrieve_tile.h>

namespace hopfield::kernels::cuda {

/// The row of the warp that the lane has in a half of a band.
HOPFIELD_DEVICE int row_of_lane(int band, int half) { return 16 * band + lane_index() / 4 + 8 * half; }
/// The first of the lane's two keys, or features, in eight of them.
HOPFIELD_DEVICE int column_of_lane(int eighth) { return 8 * eighth + 2 * (lane_index() % 4); }

/// What is added to the score of a query and a key; -inf excludes.
/// @param key_bias  of the set, or null
HOPFIELD_DEVICE float score_bias(const RetrieveCall& call, const float* key_bias, const QueryPlace& place, int key) {
  if (call.is_causal && key > place.query) return minus_infinity();
  const float bias = key_bias != nullptr ? key_bias[key] : 0.0f;
  if (call.mask.kind == ScoreMask::Kind::none || !place.exists) return bias;
  const auto at = place.mask + key * call.mask.key;
  if (call.mask.kind == ScoreMask::Kind::float32) return bias + static_cast<const float*>(call.mask.data)[at];
  return static_cast<const uint8_t*>(call.mask.data)[at] != 0 ? minus_infinity() : bias;
}

/// Turns the products of a warp's queries with the keys from `first` on into scores in units of log 2. The score is
/// -inf where the key is excluded or does not exist.
/// @param places  of the warp's queries
/// @param note  if `notes`, called with (place, key, score) for each score in natural units
template <int bands, int eighths, class Note>
HOPFIELD_DEVICE void finish_scores(Fragments<bands, eighths>& scores, const RetrieveCall& call, const RetrieveSet& set,
                                   const QueryPlace* places, const float (&beta)[bands][2], int first, bool notes,
                                   const Note& note) {
  const auto* key_bias = set.key_bias(call);
  const bool biased = key_bias != nullptr || call.mask.kind != ScoreMask::Kind::none || call.is_causal || notes;
  HOPFIELD_UNROLL
  for (int i = 0; i < bands * eighths * 4; ++i) {
    const int band = i / (4 * eighths), j = i / 4 % eighths, half = i / 2 % 2;
    float& score = scores[band][j][i % 4];
    const int key = first + column_of_lane(j) + i % 2;
    if (key >= set.keys) {
      score = minus_infinity();
    } else if (!biased) {
      score *= beta[band][half] * kLog2e;
    } else {
      const auto& place = places[row_of_lane(band, half)];
      const float bias = score_bias(call, key_bias, place, key);
      if (notes && place.exists) note(place, key, bias == minus_infinity() ? bias : beta[band][half] * score + bias);
      score = bias == minus_infinity() ? bias : fused_multiply_add(score, beta[band][half] * kLog2e, bias * kLog2e);
    }
  }
}

/// Multiplies the weights by the factors of dropout.
template <int bands, int eighths>
HOPFIELD_DEVICE void drop_out(Fragments<bands, eighths>& weights, const RetrieveCall& call, const QueryPlace* places,
                              int first) {
  HOPFIELD_UNROLL
  for (int i = 0; i < bands * eighths * 2; ++i) {
    const int band = i / (2 * eighths), j = i / 2 % eighths, half = i % 2, key = first + column_of_lane(j);
    const auto& place = places[row_of_lane(band, half)];
    const auto factors = dropout_factors(call.seed, call.dropout, place.batch, place.head, place.query, key / 4);
    float* pair = &weights[band][j][2 * half];
    pair[0] *= key % 4 == 0 ? factors.values[0] : factors.values[2];
    pair[1] *= key % 4 == 0 ? factors.values[1] : factors.values[3];
  }
}

/// Calls `act(band, half, row)` for each of a lane's rows.
template <int bands, class Do>
HOPFIELD_DEVICE void for_rows(const Do& act) {
  HOPFIELD_UNROLL
  for (int i = 0; i < 2 * bands; ++i) act(i / 2, i % 2, row_of_lane(i / 2, i % 2));
}

/// Sums of the lanes of a row, the same in all of them.
template <int bands>
HOPFIELD_DEVICE void sum_rows(float (&values)[bands][2]) {
  HOPFIELD_UNROLL
  for (int i = 0; i < 2 * bands; ++i) values[i / 2][i % 2] = quad_sum(values[i / 2][i % 2]);
}

}  // namespace hopfield::kernels::cuda
