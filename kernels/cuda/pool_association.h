#pragma once

// An association of the forward pass: scores, exponentials and weighted instances, tile by tile.

#include <kernels/cuda/pool_block.h>
#include <kernels/cuda/pool_stream.h>
#include <kernels/cuda/pool_update.h>

namespace hopfield::kernels::cuda {

/// Largest score and sum of a lane's two rows, g and g + 8, over the tiles so far; the same in all warps.
struct Running {
  float largest[2] = {minus_infinity(), minus_infinity()};
  float sum[2] = {0.0f, 0.0f};
  float kept[2] = {0.0f, 0.0f};
  float shift[2] = {0.0f, 0.0f};  ///< sum of weights times means of instances
};

/// A row group's association with a stretch of instances, whose tiles it takes one after the other.
template <class T, int most_tiles>
class Association {
 public:
  static constexpr int kRows = kTileRows<T, most_tiles>;

  /// @param queries  [rows of the group, room]
  HOPFIELD_DEVICE Association(const Forward& f, bool last, const RowGroup& group, const PartOfBag& part,
                              const TileStream<T, kRows>& stream, const float* queries)
      : f_(f), last_(last), group_(group), part_(part), stream_(stream) {
    load_queries<T>(stream.queries(0), stream.row_sums(0), queries, group.count, stream.room());
  }

  HOPFIELD_DEVICE void take(int number) {
    find_scores(number);
    sync_threads();
    add(number);
  }

  /// Leaves the partial sums behind by `store(address, value)`.
  template <class Store>
  HOPFIELD_DEVICE void store(const Partials& target, const Store& store) const {
    const int g = lane_index() / 4, column = lane_index() % 4;
    const int begin = warp_index() * (stream_.room() / kPoolWarps);
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      if (t >= stream_.room() / 32) break;
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = g + i / 2 * 8;
        if (row < group_.count) {
          store(target.means + row * stream_.room() + begin + 8 * t + 2 * column + i % 2,
                sums_[t][i] - running_.shift[i / 2]);
        }
      }
    }
    if (warp_index() != 0 || column != 0) return;
    for (int i = 0; i < 2; ++i) {
      store(target.sums + g + 8 * i, running_.largest[i]);
      store(target.sums + kPoolRows + g + 8 * i, running_.sum[i]);
      store(target.sums + 2 * kPoolRows + g + 8 * i, running_.kept[i]);
    }
  }

 private:
  /// Scores of the calling warp's instances, in units of log 2.
  HOPFIELD_DEVICE void find_scores(int number) const {
    const auto& call = f_.call;
    const int g = lane_index() / 4, column = lane_index() % 4;
    if (8 * warp_index() >= kRows) return;
    float c[kWarpEights<kRows>][4] = {};
    score_products<T, kRows>(c, stream_.queries(0), stream_.tile(number), stream_.room(), call.plain_float32);
    const float* scales = stream_.scales(number);
    const float* shifts = stream_.shifts(number);
    const float* row_totals = stream_.row_sums(0);
    float* scores = stream_.scores(0);
    for (int j = 0; j < kWarpEights<kRows>; ++j) {
      for (int i = 0; i < 4; ++i) {
        const int row = g + i / 2 * 8, key = 8 * (warp_index() + j * kPoolWarps) + 2 * column + i % 2;
        const int64_t instance = stream_.first(number) + key;
        const bool exists = key < stream_.rows_in(number) && row < group_.count;
        float score = minus_infinity();
        if (exists) {
          const float bias = call.key_bias != nullptr ? call.key_bias[instance] : 0.0f;
          const float beta = call.beta[head_of(call, group_.first + row)];
          const float natural = score_of(beta, c[j][i], row_totals[row], scales[key], shifts[key], bias);
          if (bias != minus_infinity()) score = natural * kLog2e;
          if (last_ && f_.out.scores != nullptr) {
            const auto rows = call.heads * call.queries;
            f_.out.scores[instance * rows + (group_.first + row) % rows] =
                bias != minus_infinity() ? natural : minus_infinity();
          }
        }
        scores[row * kScorePitch<kRows> + key] = score;
      }
    }
  }

  /// Takes the tile's scores into the running sums.
  HOPFIELD_DEVICE void add(int number) {
    const auto& call = f_.call;
    const int g = lane_index() / 4, column = lane_index() % 4;
    const float* scores = stream_.scores(0);
    const float* scales = stream_.scales(number);
    const float* shifts = stream_.shifts(number);
    const bool drops = last_ && call.dropout > 0.0f;
    float factor[2];
    for (int r = 0; r < 2; ++r) {
      const float* row = scores + (g + 8 * r) * kScorePitch<kRows>;
      float largest = running_.largest[r];
      for (int key = column; key < kRows; key += 4) largest = row[key] <= largest ? largest : row[key];
      largest = quad_max(largest);
      // Before the first key there is nothing to scale; -inf must not be subtracted from itself.
      factor[r] = running_.largest[r] == largest            ? 1.0f
                  : running_.largest[r] == minus_infinity() ? 0.0f
                                                            : fast_exp2(running_.largest[r] - largest);
      running_.largest[r] = largest;
      running_.sum[r] *= factor[r];
      running_.kept[r] *= factor[r];
      running_.shift[r] *= factor[r];
    }
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) sums_[t][i] *= factor[i / 2];
    }
    float sum[2] = {}, kept[2] = {}, shift[2] = {};
    for (int first = 0; first < kRows; first += 16) {
      WeightFragment weights;
      HOPFIELD_UNROLL
      for (int i = 0; i < 8; ++i) {
        const int half = i / 4, r = i / 2 % 2, key = first + 8 * half + 2 * column + i % 2;
        const float score = scores[(g + 8 * r) * kScorePitch<kRows> + key];
        const float p = score == minus_infinity() ? 0.0f : fast_exp2(score - running_.largest[r]);
        sum[r] += p;
        float stays = p;
        if (drops && g + 8 * r < group_.count) {
          const int64_t place = stream_.first(number) + key - part_.bag_first;
          stays *= dropout_factor(call, group_, g + 8 * r, place);
        }
        kept[r] += stays;
        // Rounded here, so that the instance means are subtracted with the very weights that they were added with.
        const float weight = as_weight<T>(stays * scales[key]);
        shift[r] += weight * shifts[key];
        weights.at[half][r][i % 2] = weight;
      }
      add_weighted<T, most_tiles>(sums_, weights, stream_.tile(number), first, stream_.room(), call.plain_float32);
    }
    for (int r = 0; r < 2; ++r) {
      running_.sum[r] += quad_sum(sum[r]);
      running_.kept[r] += quad_sum(kept[r]);
      running_.shift[r] += quad_sum(shift[r]);
    }
  }

  const Forward& f_;
  const bool last_;
  const RowGroup group_;
  const PartOfBag part_;
  const TileStream<T, kRows>& stream_;
  Running running_;
  float sums_[most_tiles][4] = {};
};

}  // namespace hopfield::kernels::cuda
