#include <kernels/cuda/launch.h>
#include <kernels/cuda/pool_backward.h>
#include <kernels/cuda/pool_block.h>
#include <kernels/cuda/pool_dispatch.h>
#include <kernels/cuda/pool_stream.h>

namespace hopfield::kernels::cuda {
namespace {

/// Two floats, each as the sum of two bfloat16, whose exponents gradients of any size have.
struct Pieces {
  uint32_t high, low;  ///< two bfloat16 each
  HOPFIELD_DEVICE Pieces(float even, float odd) {
    const Split<bfloat16_t> first(even), second(odd);
    high = pack_pair<bfloat16_t>(to_float(first.high), to_float(second.high));
    low = pack_pair<bfloat16_t>(to_float(first.low), to_float(second.low));
  }
};

/// A lane's part of a 16 x 16 matrix, with g = lane / 4 and c = lane % 4: at[half][i][k] is in row g + 8 i and column
/// 8 half + 2 c + k.
struct WeightFragment {
  float at[2][2][2];
};

/// c += a b for 16 x 16 and 16 x 8 floats in fragments of mma_m16n8k16, exact to about 16 bits.
HOPFIELD_DEVICE void multiply_add(float (&c)[4], const WeightFragment& a, const float (&b)[4]) {
  uint32_t a_high[4], a_low[4];
  HOPFIELD_UNROLL
  for (int i = 0; i < 4; ++i) {
    const Pieces pieces(a.at[i / 2][i % 2][0], a.at[i / 2][i % 2][1]);
    a_high[i] = pieces.high;
    a_low[i] = pieces.low;
  }
  const Pieces first(b[0], b[1]), second(b[2], b[3]);
  const uint32_t b_high[2] = {first.high, second.high}, b_low[2] = {first.low, second.low};
  mma_m16n8k16<bfloat16_t>(c, a_low, b_high);
  mma_m16n8k16<bfloat16_t>(c, a_high, b_low);
  mma_m16n8k16<bfloat16_t>(c, a_high, b_high);
}

/// The same by tf32, about as exact as float32.
HOPFIELD_DEVICE void multiply_add_exactly(float (&c)[4], const WeightFragment& a, const float (&b)[4]) {
  HOPFIELD_UNROLL
  for (int half = 0; half < 2; ++half) {
    // The instruction takes the columns c and c + 4 of a lane. Since the order in the sum is free, both operands have
    // 2 c and 2 c + 1 there.
    const auto& of_half = a.at[half];
    multiply_add_exactly(c, Tf32Pieces({of_half[0][0], of_half[1][0], of_half[0][1], of_half[1][1]}), b[2 * half],
                         b[2 * half + 1]);
  }
}

/// The gradient of a part's instances: P and beta dS of all associations times the rows that they belong to, and then
/// the backward pass of LayerNorm's core. A warp has a quarter of the width, of 16 instances at a time.
template <class T, int most_tiles>
class InstancesBackward {
 public:
  HOPFIELD_DEVICE InstancesBackward(const PoolBackward& b, const PartOfBag& part)
      : b_(b), part_(part), stream_(b.call, part.first, part.count, 1, kStages) {}

  HOPFIELD_DEVICE void run() {
    const bool reads = b_.call.map.normalize;  // without a norm, the gradient does not depend on the instances
    if (reads) stream_.template begin<kStages - 1>();
    for (int number = 0; number < stream_.tiles(); ++number) {
      if (reads) stream_.template bring<kStages - 1>(number);
      sync_threads();  // all warps have found the norms of their rows
      for (int first = 0; first < kRows; first += 16) take(number, first);
      sync_threads();
    }
  }

 private:
  static constexpr int kRows = kTileRows<T, most_tiles>, kStages = pool_stages<T, most_tiles>(1);

  HOPFIELD_DEVICE void take(int number, int first) const {
    const auto& call = b_.call;
    const int g = lane_index() / 4, column = lane_index() % 4, padded_width = stream_.padded_width(),
              tiles = padded_width / 32;
    const int begin = warp_index() * (padded_width / kPoolWarps);
    const auto all_rows = pool_all_rows(call);
    const float* rows = b_.own.rows + part_.bag * all_rows * padded_width;
    float sums[most_tiles][4] = {};
    const float* weights = b_.own.weights + (stream_.first(number) + first) * all_rows;
    for (int64_t k = 0; k < all_rows; k += 16) {
      const auto weight = [&](int i, int row) {
        const bool exists = first + i < stream_.rows_in(number) && k + row < all_rows;
        return exists ? weights[i * all_rows + k + row] : 0.0f;
      };
      add_rows(sums, weight, rows + k * padded_width, all_rows - k);
    }
    if (call.map.normalize) undo_norm(sums, number, first);
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      if (t >= tiles) break;
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int key = first + g + i / 2 * 8, feature = begin + 8 * t + 2 * column + i % 2;
        if (key >= stream_.rows_in(number) || feature >= call.width) continue;
        static_cast<T*>(b_.g.stored.data)[(stream_.first(number) + key) * b_.g.stored.row + feature] =
            from_float<T>(sums[t][i]);
      }
    }
  }

  /// Adds the weights `weight(instance, row)` of 16 instances times the 16 rows from `rows` on, of which `left` exist.
  template <class Weight>
  HOPFIELD_DEVICE void add_rows(float (&sums)[most_tiles][4], const Weight& weight, const float* rows,
                                int64_t left) const {
    const int g = lane_index() / 4, column = lane_index() % 4, padded_width = stream_.padded_width(),
              tiles = padded_width / 32;
    const float* quarter = rows + warp_index() * (padded_width / kPoolWarps);
    if constexpr (kIsFloat<T>) {
      if (b_.call.plain_float32) {
        TwoRows weights;
        HOPFIELD_UNROLL
        for (int i = 0; i < 16; ++i) {
          weights.upper[i] = weight(g, i);
          weights.lower[i] = weight(g + 8, i);
        }
        HOPFIELD_UNROLL
        for (int t = 0; t < most_tiles; ++t) {
          if (t >= tiles) break;
          weights.multiply_add(sums[t], quarter + 8 * t + 2 * column, padded_width,
                               left < 16 ? static_cast<int>(left) : 16);
        }
        return;
      }
    }
    WeightFragment weights;
    HOPFIELD_UNROLL
    for (int i = 0; i < 8; ++i) {
      weights.at[i / 4][i / 2 % 2][i % 2] = weight(g + i / 2 % 2 * 8, i / 4 * 8 + 2 * column + i % 2);
    }
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      if (t >= tiles) break;
      float y[4];
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = i / 2 * 8 + 2 * column + i % 2;
        y[i] = row < left ? quarter[row * padded_width + 8 * t + g] : 0.0f;
      }
      if constexpr (kIsFloat<T>) {
        multiply_add_exactly(sums[t], weights, y);
      } else {
        multiply_add(sums[t], weights, y);
      }
    }
  }

  /// From the gradient of normalised instances to that of the instances:
  ///
  ///     dy = (dn - mean(dn) - n mean(n dn)) / deviation
  HOPFIELD_DEVICE void undo_norm(float (&sums)[most_tiles][4], int number, int first) const {
    const int g = lane_index() / 4, column = lane_index() % 4, padded_width = stream_.padded_width(),
              tiles = padded_width / 32;
    const int begin = warp_index() * (padded_width / kPoolWarps), pitch = tile_pitch<T>(padded_width);
    const T* tile = stream_.tile(number);
    const auto normalized = [&](int key, int feature) {
      if (feature >= b_.call.width) return 0.0f;
      return (to_float(tile[key * pitch + feature]) - stream_.shifts(number)[key]) * stream_.scales(number)[key];
    };
    float mean[2] = {}, product[2] = {};
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      if (t >= tiles) break;
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int feature = begin + 8 * t + 2 * column + i % 2;
        mean[i / 2] += sums[t][i];
        product[i / 2] += sums[t][i] * normalized(first + g + i / 2 * 8, feature);
      }
    }
    // Sums over the warps, in their order.
    float* all = stream_.scratch();  // [2, 16, warps]
    for (int r = 0; r < 2; ++r) {
      mean[r] = quad_sum(mean[r]);
      product[r] = quad_sum(product[r]);
      if (column == 0) {
        all[(g + 8 * r) * kPoolWarps + warp_index()] = mean[r];
        all[(kPoolRows + g + 8 * r) * kPoolWarps + warp_index()] = product[r];
      }
    }
    sync_threads();
    for (int r = 0; r < 2; ++r) {
      mean[r] = product[r] = 0.0f;
      for (int w = 0; w < kPoolWarps; ++w) {
        mean[r] += all[(g + 8 * r) * kPoolWarps + w];
        product[r] += all[(kPoolRows + g + 8 * r) * kPoolWarps + w];
      }
      mean[r] /= static_cast<float>(b_.call.width);
      product[r] /= static_cast<float>(b_.call.width);
    }
    sync_threads();
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      if (t >= tiles) break;
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int key = first + g + i / 2 * 8, feature = begin + 8 * t + 2 * column + i % 2;
        sums[t][i] =
            stream_.norms(number)[key] * (sums[t][i] - mean[i / 2] - normalized(key, feature) * product[i / 2]);
      }
    }
  }

  const PoolBackward& b_;
  const PartOfBag part_;
  const TileStream<T, kRows> stream_;
};

template <class T, int most_tiles>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kPoolThreads, 2) pool_backward_instances_pass(PoolBackward b) {
  const int number = block_index().x;
  if (number >= b.work.plan.first_part[b.call.batch]) return;
  InstancesBackward<T, most_tiles>(b, part_of_bag(b.call, b.work, number)).run();
}

template <class T, int most_tiles>
std::string run(const PoolBackward& b, Stream stream) {
  return launch(pool_backward_instances_pass<T, most_tiles>,
                {{b.work.most_parts, 1, 1}, kPoolThreads, streaming_shared_bytes<T, most_tiles>(b.call, 1)}, stream, b);
}

}  // namespace

std::string pool_backward_instances(const PoolBackward& b, Stream stream) {
  return for_instances<PoolBackwardInstancesTiles>(
      b.call, [&](auto number, auto tiles) { return run<decltype(number), tiles()>(b, stream); });
}

}  // namespace hopfield::kernels::cuda
