#pragma once

// A tile of instances in shared memory, and its products with 16 queries. Four warps work on it. For the scores, they
// share out the instances. For the weighted sums, each takes a quarter of the width, so that its sums stay in registers
// for the whole part.

#include <kernels/cuda/pool_workspace.h>
#include <kernels/cuda/products.h>
#include <kernels/cuda/reductions.h>
#include <kernels/cuda/row_copy.h>

#include <cstdint>
#include <type_traits>

namespace hopfield::kernels::cuda {

constexpr int kPoolWarps = 4;
constexpr int kPoolThreads = 32 * kPoolWarps;

/// Elements from row to row in shared memory. Each row begins 4 banks further than the one before, so that the eight
/// rows and four columns that a warp reads for a fragment lie in 32 different banks.
template <class T>
HOPFIELD_DEVICE constexpr int tile_pitch(int padded_width) {
  return padded_width + 16 / static_cast<int>(sizeof(T));
}

/// Instances of a tile, of up to 32 `feature_tiles` features each: so many that two blocks fit on a multiprocessor, or
/// one where instances are very wide.
template <class T, int feature_tiles>
constexpr int kTileRows = kIsFloat<T> ? (feature_tiles <= 8 ? 32 : 16)
                                      : (feature_tiles <= 8    ? 64
                                         : feature_tiles <= 16 ? 32
                                                               : 16);
/// Scores are found for 8 instances at a time, an eight. Warp w has the eights w, w + 4, .. of a tile, so many.
template <int rows>
constexpr int kWarpEights = rows > 32 ? rows / 32 : 1;

/// Elements from row to row of a tile's weights: 16 bytes more than the instances take, as in tile_pitch().
template <class T, int rows>
constexpr int kWeightPitch = rows + 16 / static_cast<int>(sizeof(T));

/// Shared memory of a block, in bytes from its beginning. A stage holds a tile; a set is 16 queries and their sums.
template <class T, int rows>
struct PoolShared {
  int tiles, scales, shifts, norms, weights, maxima, sets, set_size, total;
  int row_sums, row_scales;  ///< in a set, behind its queries

  HOPFIELD_DEVICE constexpr PoolShared(int padded_width, int set_count, int stages)
      : tiles(0),
        scales(stages * rows * tile_pitch<T>(padded_width) * static_cast<int>(sizeof(T))),
        shifts(scales + 4 * rows * stages),
        norms(shifts + 4 * rows * stages),
        // Weights, like queries, that meet 16-bit instances are two 16-bit numbers each.
        weights(norms + 4 * rows * stages),
        maxima(weights + 4 * kPoolRows * kWeightPitch<T, rows>),
        sets(maxima + 4 * kPoolRows * kPoolWarps),
        set_size(4 * kPoolRows * (tile_pitch<T>(padded_width) + 2)),
        total(sets + set_count * set_size),
        row_sums(4 * kPoolRows * tile_pitch<T>(padded_width)),
        row_scales(row_sums + 4 * kPoolRows) {}
};

/// Begins to copy a tile. Rows from `count` on, rows that the key bias excludes, and the padding become zeros.
template <class T, int rows>
HOPFIELD_DEVICE void fetch_tile(T* tile, const PoolCall& call, int64_t first, int count, int padded_width) {
  const T* source = static_cast<const T*>(call.stored.data) + first * call.stored.row;
  copy_rows<T, rows, kPoolThreads>(
      tile, tile_pitch<T>(padded_width), padded_width, source, call.stored.row, static_cast<int>(call.width),
      [&](int row) {
        return row < count && (call.key_bias == nullptr || call.key_bias[first + row] != minus_infinity());
      });
}

/// Sum of a value over the eight lanes of a row.
HOPFIELD_DEVICE float eight_sum(float value) {
  for (int mask = 4; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

/// Calls `take(number, in)` for the numbers of a row that the calling lane has, 16 bytes at a time. `in` is false for
/// those behind the width.
template <class T, class Take>
HOPFIELD_DEVICE void for_each_number(const T* row, int width, const Take& take) {
  constexpr int kElements = Pack<T>::kSize;
  for (int column = lane_index() % 8 * kElements; column < width; column += 8 * kElements) {
    const Pack<T> pack = load_pack(row + column);
    if (column + kElements <= width) {
      HOPFIELD_UNROLL
      for (int i = 0; i < kElements; ++i) take(to_float(pack.values[i]), true);
    } else {
      HOPFIELD_UNROLL
      for (int i = 0; i < kElements; ++i) take(to_float(pack.values[i]), column + i < width);
    }
  }
}

/// Applies the core of LayerNorm to the calling warp's rows, eight lanes to a row. Rows of 16-bit numbers stay as they
/// are, and their scale and shift are taken into account later, as (y - shift) scale: this is as exact, and saves a
/// pass through shared memory. Rows of floats are normalised in place, since products with numbers far from zero would
/// lose digits; their scale is then 1 and their shift 0. `norms` are the scales of the norm in both cases.
template <class T, int rows>
HOPFIELD_DEVICE void normalize_tile(T* tile, float* scales, float* shifts, const PoolCall& call, int padded_width,
                                    float* norms) {
  const int pitch = tile_pitch<T>(padded_width), width = static_cast<int>(call.width);
  for (int i = 0; i < 2 * kWarpEights<rows>; ++i) {
    const int row = 8 * (warp_index() + i / 2 * kPoolWarps) + i % 2 * 4 + lane_index() / 8;
    if (8 * warp_index() >= rows) break;  // the whole warp
    T* y = tile + row * pitch;
    float mean = 0.0f, scale = 1.0f, norm = 1.0f;
    if (call.map.normalize) {
      for_each_number(y, width, [&](float value, bool) { mean += value; });  // those behind the width are zeros
      mean = eight_sum(mean) / static_cast<float>(width);
      float variance = 0.0f;
      for_each_number(y, width, [&](float value, bool in) {
        const float difference = in ? value - mean : 0.0f;
        variance = fused_multiply_add(difference, difference, variance);
      });
      variance = eight_sum(variance) / static_cast<float>(width) + call.map.normalize_eps;
      scale = variance == 0.0f ? 0.0f : fast_rsqrt(variance);
      norm = scale;
      if constexpr (kIsFloat<T>) {
        for (int column = lane_index() % 8 * 4; column < width; column += 32) {
          Pack<float> pack = load_pack(y + column);
          HOPFIELD_UNROLL
          for (int k = 0; k < 4; ++k) pack.values[k] = column + k < width ? (pack.values[k] - mean) * scale : 0.0f;
          store_pack(y + column, pack);
        }
        mean = 0.0f;
        scale = 1.0f;
      }
    }
    if (lane_index() % 8 == 0) {
      scales[row] = scale;
      shifts[row] = mean;
      norms[row] = norm;
    }
  }
  sync_warp();
}

/// A power of two near `largest`. Divided by it, numbers come near 1: gradients may be too small for 16-bit numbers.
HOPFIELD_DEVICE float power_of_two(float largest) {
  const uint32_t exponent = float_bits(largest) & 0x7F800000u;
  return exponent == 0 || exponent >= 0x7E800000u ? 1.0f : bits_float(exponent);
}

/// Loads `count` queries [count, padded width] from global memory in the form that products take, and fills up to 16
/// with zeros.
/// @param row_scales  if given, each query is divided by a power of two of its own, which is written here
template <class T>
HOPFIELD_DEVICE void load_queries(unsigned char* target, float* row_sums, const float* queries, int count,
                                  int padded_width, float* row_scales = nullptr) {
  const int pitch = tile_pitch<T>(padded_width);
  for (int row = warp_index(); row < kPoolRows; row += kPoolWarps) {
    float sum = 0.0f, scale = 1.0f;
    if (row_scales != nullptr) {
      float largest = 0.0f;
      for (int k = lane_index(); row < count && k < padded_width; k += 32) {
        const float value = queries[row * padded_width + k];
        const float size = value < 0.0f ? -value : value;
        largest = size > largest ? size : largest;
      }
      scale = power_of_two(warp_max(largest));
      if (lane_index() == 0) row_scales[row] = scale;
    }
    for (int k = lane_index(); k < padded_width; k += 32) {
      const float value = row < count ? queries[row * padded_width + k] / scale : 0.0f;
      if constexpr (kIsFloat<T>) {
        reinterpret_cast<float*>(target)[row * pitch + k] = value;
        sum += value;
      } else {
        const Split<T> split(value);
        auto* high = reinterpret_cast<T*>(target);
        high[row * pitch + k] = split.high;
        high[(kPoolRows + row) * pitch + k] = split.low;
        sum += to_float(split.high) + to_float(split.low);
      }
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) row_sums[row] = sum;
  }
}

/// score_products() of floats without tensor cores, by a lane for two queries and two instances, four features at a
/// time.
template <int rows>
HOPFIELD_DEVICE void plain_score_products(float (&c)[kWarpEights<rows>][4], const float* queries, const float* tile,
                                          int padded_width) {
  const int pitch = tile_pitch<float>(padded_width), g = lane_index() / 4, column = lane_index() % 4;
  const float *q = queries + g * pitch, *own = tile + (8 * warp_index() + 2 * column) * pitch;
  constexpr int kNext = 8 * kPoolWarps;
  for (int k = 0; k < padded_width; k += 4) {
    const Pack<float> upper = load_pack(q + k), lower = load_pack(q + 8 * pitch + k);
    HOPFIELD_UNROLL
    for (int j = 0; j < kWarpEights<rows>; ++j) {
      const float* y = own + kNext * j * pitch + k;
      const Pack<float> even = load_pack(y), odd = load_pack(y + pitch);
      multiply_add_plainly(c[j], upper, lower, even, odd);
    }
  }
}

/// Adds to c[j] the products of 16 queries with the calling warp's eight number j of instances.
/// @param few  there are at most 8 queries
/// @param plain  floats are multiplied without tensor cores
template <class T, int rows>
HOPFIELD_DEVICE void score_products(float (&c)[kWarpEights<rows>][4], const unsigned char* queries, const T* tile,
                                    int padded_width, bool few, bool plain) {
  if constexpr (kIsFloat<T>) {
    if (plain) return plain_score_products<rows>(c, reinterpret_cast<const float*>(queries), tile, padded_width);
  }
  const int pitch = tile_pitch<T>(padded_width);
  const int g = lane_index() / 4, column = lane_index() % 4;
  const T* own = tile + (8 * warp_index() + g) * pitch;
  constexpr int kNext = 8 * kPoolWarps;  // instances to the warp's next eight
  if constexpr (kIsFloat<T>) {
    const auto* q = reinterpret_cast<const float*>(queries) + g * pitch + column;
    for (int k = 0; k < padded_width; k += 8) {
      const Tf32Pieces a({q[k], few ? 0.0f : q[8 * pitch + k], q[k + 4], few ? 0.0f : q[8 * pitch + k + 4]});
      HOPFIELD_UNROLL
      for (int j = 0; j < kWarpEights<rows>; ++j) {
        const float* y = own + kNext * j * pitch + k + column;
        multiply_add_exactly(c[j], a, y[0], y[4]);
      }
    }
  } else {
    const auto* q = reinterpret_cast<const T*>(queries) + g * pitch + 2 * column;
    for (int k = 0; k < padded_width; k += 16) {
      uint32_t a[2][4];
      HOPFIELD_UNROLL
      for (int half = 0; half < 2; ++half) {
        const T* from = q + half * kPoolRows * pitch + k;
        a[half][0] = load_word(from);
        a[half][1] = few ? 0 : load_word(from + 8 * pitch);
        a[half][2] = load_word(from + 8);
        a[half][3] = few ? 0 : load_word(from + 8 * pitch + 8);
      }
      HOPFIELD_UNROLL
      for (int j = 0; j < kWarpEights<rows>; ++j) {
        const T* y = own + kNext * j * pitch + k + 2 * column;
        const uint32_t b[2] = {load_word(y), load_word(y + 8)};
        mma_m16n8k16<T>(c[j], a[0], b);
        mma_m16n8k16<T>(c[j], a[1], b);
      }
    }
  }
}

/// The weights of two neighbouring instances.
template <class T>
struct WeightPair {
  uint32_t high, low;  ///< pieces of both, two 16-bit numbers in each word
  float even, odd;     ///< the weights as the products see them

  HOPFIELD_DEVICE WeightPair(float first, float second) {
    const Split<T> a(first), b(second);
    high = pack_pair<T>(to_float(a.high), to_float(b.high));
    low = pack_pair<T>(to_float(a.low), to_float(b.low));
    even = to_float(a.high) + to_float(a.low);
    odd = to_float(b.high) + to_float(b.low);
  }
};
template <>
struct WeightPair<float> {
  float even, odd;
  HOPFIELD_DEVICE WeightPair(float first, float second) : even(first), odd(second) {}
};

/// The weights of 16 queries and a tile's instances, in shared memory.
template <class T, int rows>
class WeightTile {
 public:
  HOPFIELD_DEVICE explicit WeightTile(unsigned char* memory) : weights_(reinterpret_cast<T*>(memory)) {}

  /// @param key  of the first of the two, even
  HOPFIELD_DEVICE void store(int row, int key, const WeightPair<T>& pair) const {
    T* at = weights_ + row * kPitch + key;
    if constexpr (kIsFloat<T>) {
      at[0] = pair.even;
      at[1] = pair.odd;
    } else {
      *reinterpret_cast<uint32_t*>(at) = pair.high;
      *reinterpret_cast<uint32_t*>(at + kPoolRows * kPitch) = pair.low;
    }
  }

  /// Adds weights times instances to the sums of the calling warp's quarter of the width. sums[t] are those of the
  /// features 8 t .. 8 t + 7 of it.
  template <int most_tiles>
  HOPFIELD_DEVICE void multiply_add(float (&sums)[most_tiles][4], const T* tile, int padded_width, bool plain) const {
    const int pitch = tile_pitch<T>(padded_width), tiles = padded_width / 32;
    const T* quarter = tile + warp_index() * (padded_width / kPoolWarps);
    for (int first = 0; first < rows; first += 16) {
      const T* instances = quarter + first * pitch;
      if constexpr (!kIsFloat<T>) {
        multiply_add_split(sums, first, instances, pitch, tiles);
      } else if (plain) {
        multiply_add_plain(sums, first, instances, pitch, tiles);
      } else {
        multiply_add_exact(sums, first, instances, pitch, tiles);
      }
    }
  }

 private:
  static constexpr int kPitch = kWeightPitch<T, rows>;

  template <int most_tiles>
  HOPFIELD_DEVICE void multiply_add_split(float (&sums)[most_tiles][4], int first, const T* instances, int pitch,
                                          int tiles) const {
    const int matrix = lane_index() / 8, row = lane_index() % 8;
    const T* weights = weights_ + (matrix % 2 * 8 + row) * kPitch + first + matrix / 2 * 8;
    uint32_t high[4], low[4];
    ldmatrix(high, weights);
    ldmatrix(low, weights + kPoolRows * kPitch);
    const T* y = instances + (matrix % 2 * 8 + row) * pitch + matrix / 2 * 8;
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; t += 2) {
      if (t >= tiles) break;
      uint32_t b[4];
      ldmatrix_transposed(b, y + 8 * t);
      const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
      mma_m16n8k16<T>(sums[t], low, left);
      mma_m16n8k16<T>(sums[t], high, left);
      mma_m16n8k16<T>(sums[t + 1], low, right);
      mma_m16n8k16<T>(sums[t + 1], high, right);
    }
  }

  template <int most_tiles>
  HOPFIELD_DEVICE void multiply_add_exact(float (&sums)[most_tiles][4], int first, const T* instances, int pitch,
                                          int tiles) const {
    const int g = lane_index() / 4, column = lane_index() % 4;
    HOPFIELD_UNROLL
    for (int half = 0; half < 2; ++half) {
      // The instruction takes the instances c and c + 4 of a lane. Since the order in the sum is free, both operands
      // have the neighbours 2 c and 2 c + 1 there.
      const float* w = weights_ + g * kPitch + first + 8 * half + 2 * column;
      const Tf32Pieces a({w[0], w[8 * kPitch], w[1], w[8 * kPitch + 1]});
      const float* y = instances + (8 * half + 2 * column) * pitch + g;
      HOPFIELD_UNROLL
      for (int t = 0; t < most_tiles; ++t) {
        if (t >= tiles) break;
        multiply_add_exactly(sums[t], a, y[8 * t], y[pitch + 8 * t]);
      }
    }
  }

  template <int most_tiles>
  HOPFIELD_DEVICE void multiply_add_plain(float (&sums)[most_tiles][4], int first, const T* instances, int pitch,
                                          int tiles) const {
    const float* upper = weights_ + lane_index() / 4 * kPitch + first;
    TwoRows weights;
    HOPFIELD_UNROLL
    for (int i = 0; i < 16; i += 4) {
      const Pack<float> of_upper = load_pack(upper + i), of_lower = load_pack(upper + 8 * kPitch + i);
      HOPFIELD_UNROLL
      for (int k = 0; k < 4; ++k) {
        weights.upper[i + k] = of_upper.values[k];
        weights.lower[i + k] = of_lower.values[k];
      }
    }
    HOPFIELD_UNROLL
    for (int t = 0; t < most_tiles; ++t) {
      if (t >= tiles) break;
      weights.multiply_add(sums[t], instances + 8 * t + 2 * (lane_index() % 4), pitch, 16);
    }
  }

  T* const weights_;
};

}  // namespace hopfield::kernels::cuda
