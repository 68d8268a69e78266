#pragma once

// One softmax of the forward pass over a stretch of instances, tile by tile.

#include <kernels/cuda/pool_block.h>
#include <kernels/cuda/pool_stream.h>
#include <kernels/cuda/pool_update.h>

namespace hopfield::kernels::cuda {

/// The association of a row group with a stretch of instances. Of a tile's scores, a warp has those of its own eights
/// of instances, and with g = lane / 4 a lane has those of the rows g and g + 8.
template <class T, int most_tiles>
class Association {
 public:
  static constexpr int kRows = kTileRows<T, most_tiles>;

  /// @param queries  [rows of the group, padded width]
  HOPFIELD_DEVICE Association(const PoolForward& f, bool last, const RowGroup& group, const PartOfBag& part,
                              const TileStream<T, kRows>& stream, const float* queries)
      : f_(f), last_(last), group_(group), part_(part), stream_(stream) {
    load_queries<T>(stream.queries(0), stream.row_sums(0), queries, group.count, stream.padded_width());
    for (int r = 0; r < 2; ++r) {
      if (row_of(r) < group.count) beta_[r] = f.call.beta[head_of(f.call, group.first + row_of(r))];
    }
  }

  HOPFIELD_DEVICE void take(int number) {
    float scores[kEights][4] = {};
    if (has_instances()) {
      find_scores(scores, number);
      tell_largest(scores);
    }
    sync_threads();
    rescale();
    if (has_instances()) store_weights(scores, number);
    sync_threads();
    stream_.weights().multiply_add(sums_, stream_.tile(number), stream_.padded_width(), f_.call.plain_float32);
  }

  /// Writes the partials by `store(address, value)`. Called by all threads of the block after the last tile.
  template <class Store>
  HOPFIELD_DEVICE void store(const Partials& target, const Store& store) {
    const SumsOfWarps<3> sums(stream_.scratch());
    for (int r = 0; r < 2; ++r) sums.put(row_of(r), {sum_[r], kept_[r], shift_[r]});
    sync_threads();
    const int column = lane_index() % 4;
    for (int r = 0; r < 2; ++r) {
      if (row_of(r) >= group_.count) continue;
      float* means =
          target.means + row_of(r) * stream_.padded_width() + warp_index() * (stream_.padded_width() / kPoolWarps);
      const float shift = sums.total(2, row_of(r));
      HOPFIELD_UNROLL
      for (int t = 0; t < most_tiles; ++t) {
        if (t >= stream_.padded_width() / 32) break;
        store(means + 8 * t + 2 * column, sums_[t][2 * r] - shift);
        store(means + 8 * t + 2 * column + 1, sums_[t][2 * r + 1] - shift);
      }
    }
    if (thread_index() < kPoolRows) {
      const int row = thread_index();
      store(target.sums + kPoolRows + row, sums.total(0, row));
      store(target.sums + 2 * kPoolRows + row, sums.total(1, row));
    }
    if (warp_index() != 0 || column != 0) return;
    for (int r = 0; r < 2; ++r) store(target.sums + row_of(r), largest_[r]);
  }

 private:
  static constexpr int kEights = kWarpEights<kRows>;

  HOPFIELD_DEVICE static int row_of(int r) { return lane_index() / 4 + 8 * r; }
  HOPFIELD_DEVICE static bool has_instances() { return 8 * warp_index() < kRows; }
  /// The first of the lane's two instances in an eight of the warp.
  HOPFIELD_DEVICE static int key_of(int eight) {
    return 8 * (warp_index() + eight * kPoolWarps) + 2 * (lane_index() % 4);
  }

  /// Finds the scores in units of log 2. They are -inf where an instance is excluded, or a row or instance does not
  /// exist.
  HOPFIELD_DEVICE void find_scores(float (&scores)[kEights][4], int number) const {
    const auto& call = f_.call;
    score_products<T, kRows>(scores, stream_.queries(0), stream_.tile(number), stream_.padded_width(),
                             group_.count <= 8, call.plain_float32);
    const float* scales = stream_.scales(number);
    const float* shifts = stream_.shifts(number);
    const int count = stream_.rows_in(number);
    HOPFIELD_UNROLL
    for (int i = 0; i < 4 * kEights; ++i) {
      float& score = scores[i / 4][i % 4];
      const int r = i / 2 % 2, key = key_of(i / 4) + i % 2;
      if (key >= count || row_of(r) >= group_.count) {
        score = minus_infinity();
        continue;
      }
      const float bias = call.key_bias != nullptr ? call.key_bias[stream_.first(number) + key] : 0.0f;
      const float natural = bias == minus_infinity() ? minus_infinity()
                                                     : score_of(beta_[r], score, stream_.row_sums(0)[row_of(r)],
                                                                scales[key], shifts[key], bias);
      if (last_ && f_.out.scores != nullptr) {
        const auto rows = call.heads * call.queries;
        f_.out.scores[(stream_.first(number) + key) * rows + (group_.first + row_of(r)) % rows] = natural;
      }
      score = natural * kLog2e;
    }
  }

  /// Tells the other warps the largest scores of this warp's instances.
  HOPFIELD_DEVICE void tell_largest(const float (&scores)[kEights][4]) const {
    for (int r = 0; r < 2; ++r) {
      float largest = minus_infinity();
      HOPFIELD_UNROLL
      for (int i = 0; i < 2 * kEights; ++i) {
        const float score = scores[i / 2][2 * r + i % 2];
        largest = score > largest ? score : largest;
      }
      largest = quad_max(largest);
      if (lane_index() % 4 == 0) stream_.maxima()[warp_index() * kPoolRows + row_of(r)] = largest;
    }
  }

  /// Makes all sums relative to the largest score so far.
  HOPFIELD_DEVICE void rescale() {
    constexpr int kWarps = kRows / 8 < kPoolWarps ? kRows / 8 : kPoolWarps;
    float factor[2];
    for (int r = 0; r < 2; ++r) {
      float largest = largest_[r];
      HOPFIELD_UNROLL
      for (int warp = 0; warp < kWarps; ++warp) {
        const float other = stream_.maxima()[warp * kPoolRows + row_of(r)];
        largest = other > largest ? other : largest;
      }
      factor[r] = rescaling(largest_[r], largest);
      largest_[r] = largest;
      sum_[r] *= factor[r];
      kept_[r] *= factor[r];
      shift_[r] *= factor[r];
    }
    if (!any(factor[0] != 1.0f || factor[1] != 1.0f)) return;
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) sums_[t][i] *= factor[i / 2];
    }
  }

  /// Adds the warp's own instances to the sums of weights, and writes their weights for all warps.
  HOPFIELD_DEVICE void store_weights(const float (&scores)[kEights][4], int number) {
    const float* scales = stream_.scales(number);
    const float* shifts = stream_.shifts(number);
    HOPFIELD_UNROLL
    for (int eight = 0; eight < kEights; ++eight) {
      const int key = key_of(eight);
      HOPFIELD_UNROLL
      for (int r = 0; r < 2; ++r) {
        float p[2];
        for (int i = 0; i < 2; ++i) {
          const float score = scores[eight][2 * r + i];
          p[i] = score == minus_infinity() ? 0.0f : fast_exp2(score - largest_[r]);
          sum_[r] += p[i];
          p[i] *= dropout(number, r, key + i);
          kept_[r] += p[i];
        }
        // The means of instances are subtracted with the very weights, as rounded, that the products add them with.
        const WeightPair<T> weights(p[0] * scales[key], p[1] * scales[key + 1]);
        shift_[r] += weights.even * shifts[key] + weights.odd * shifts[key + 1];
        stream_.weights().store(row_of(r), key, weights);
      }
    }
  }

  HOPFIELD_DEVICE float dropout(int number, int r, int key) const {
    if (!last_ || f_.call.dropout <= 0.0 || row_of(r) >= group_.count) return 1.0f;
    return dropout_factor(f_.call, group_, row_of(r), stream_.first(number) + key - part_.bag_first);
  }

  const PoolForward& f_;
  const bool last_;
  const RowGroup group_;
  const PartOfBag part_;
  const TileStream<T, kRows>& stream_;
  float beta_[2] = {0.0f, 0.0f};
  float largest_[2] = {minus_infinity(), minus_infinity()};  ///< of all warps
  // Of the warp's own instances.
  float sum_[2] = {0.0f, 0.0f};
  float kept_[2] = {0.0f, 0.0f};
  float shift_[2] = {0.0f, 0.0f};   ///< sum of weights times means of instances
  float sums_[most_tiles][4] = {};  ///< of all weighted instances, in the warp's quarter of the width
};

}  // namespace hopfield::kernels::cuda
