#pragma once

// Products of a warp's rows with a tile of other rows, all of them in shared memory. In the forward pass and in the
// backward pass of the queries, the warp has queries and the tile patterns. In the backward pass of the patterns it is
// the other way round.

#include <kernels/cuda/products.h>
#include <kernels/cuda/reductions.h>

namespace hopfield::kernels::cuda {

constexpr int kRetrieveWarps = 4;
constexpr int kRetrieveThreads = 32 * kRetrieveWarps;

/// Bands of 16 rows that a warp has. All of them use what the warp reads of a tile: with a single band, reading shared
/// memory would take longer than the products.
template <class T, int padded_width>
constexpr int kBands = padded_width <= 128 ? 2 : 1;

/// Rows of a warp.
template <class T, int padded_width>
constexpr int kWarpRows = 16 * kBands<T, padded_width>;

/// Elements from row to row in shared memory. Each row begins 4 banks further than the one before, so that a warp's
/// accesses to eight rows fall into different banks.
template <class T, int padded_width>
constexpr int kRetrievePitch = padded_width + 16 / static_cast<int>(sizeof(T));

/// Features of one instruction of the tensor cores.
template <class T>
constexpr int kFeatureStep = kIsFloat<T> ? 8 : 16;

/// `width`, rounded up to whole instructions.
template <class T>
HOPFIELD_DEVICE int product_width(int64_t width) {
  return static_cast<int>((width + kFeatureStep<T> - 1) / kFeatureStep<T>) * kFeatureStep<T>;
}

/// A lane's part of the products of all rows of a warp with 8 * `eighths` others. c[band][j] is a fragment, see mma.h,
/// of the warp's rows from 16 band on and the other rows from 8 j on.
template <int bands, int eighths>
using Fragments = float[bands][eighths][4];

template <int bands, int eighths>
HOPFIELD_DEVICE void clear(Fragments<bands, eighths>& c) {
  HOPFIELD_UNROLL
  for (int i = 0; i < bands * eighths * 4; ++i) c[i / (4 * eighths)][i / 4 % eighths][i % 4] = 0.0f;
}

/// c += products of the warp's rows with those of a tile, over `width` features.
/// @param rounding_error  elements from a row to its rounding error, which is multiplied as well; 0: it has none
template <class T, int padded_width, int bands, int eighths>
HOPFIELD_DEVICE void multiply_rows(Fragments<bands, eighths>& c, const T* rows, int rounding_error, const T* tile,
                                   int width, bool plain) {
  constexpr int kPitch = kRetrievePitch<T, padded_width>;
  const int g = lane_index() / 4, column = lane_index() % 4;
  if constexpr (!kIsFloat<T>) {
    const int matrix = lane_index() / 8, row = lane_index() % 8;
    const T* x = rows + (matrix % 2 * 8 + row) * kPitch + matrix / 2 * 8;
    const T* y = tile + (matrix / 2 * 8 + row) * kPitch + matrix % 2 * 8;
    for (int k = 0; k < width; k += 16) {
      uint32_t a[bands][4], more[bands][4] = {};
      HOPFIELD_UNROLL
      for (int band = 0; band < bands; ++band) {
        ldmatrix(a[band], x + 16 * band * kPitch + k);
        if (rounding_error != 0) ldmatrix(more[band], x + 16 * band * kPitch + rounding_error + k);
      }
      HOPFIELD_UNROLL
      for (int j = 0; j < eighths; j += 2) {
        uint32_t b[4];
        ldmatrix(b, y + 8 * j * kPitch + k);
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        HOPFIELD_UNROLL
        for (int band = 0; band < bands; ++band) {
          if (rounding_error != 0) {
            mma_m16n8k16<T>(c[band][j], more[band], left);
            mma_m16n8k16<T>(c[band][j + 1], more[band], right);
          }
          mma_m16n8k16<T>(c[band][j], a[band], left);
          mma_m16n8k16<T>(c[band][j + 1], a[band], right);
        }
      }
    }
  } else if (plain) {
    const float *x = rows + g * kPitch, *y = tile + 2 * column * kPitch;
    for (int k = 0; k < width; k += 4) {
      HOPFIELD_UNROLL
      for (int band = 0; band < bands; ++band) {
        const Pack<float> upper = load_pack(x + 16 * band * kPitch + k),
                          lower = load_pack(x + (16 * band + 8) * kPitch + k);
        HOPFIELD_UNROLL
        for (int j = 0; j < eighths; ++j) {
          const Pack<float> even = load_pack(y + 8 * j * kPitch + k), odd = load_pack(y + (8 * j + 1) * kPitch + k);
          multiply_add_plainly(c[band][j], upper, lower, even, odd);
        }
      }
    }
  } else {
    const float *x = rows + g * kPitch + column, *y = tile + g * kPitch + column;
    for (int k = 0; k < width; k += 8) {
      Tf32Pieces a[bands];
      HOPFIELD_UNROLL
      for (int band = 0; band < bands; ++band) {
        const float* from = x + 16 * band * kPitch + k;
        a[band] = Tf32Pieces({from[0], from[8 * kPitch], from[4], from[8 * kPitch + 4]});
      }
      HOPFIELD_UNROLL
      for (int j = 0; j < eighths; ++j) {
        const Tf32Pair b(y[8 * j * kPitch + k], y[8 * j * kPitch + k + 4]);
        HOPFIELD_UNROLL
        for (int band = 0; band < bands; ++band) multiply_add_exactly(c[band][j], a[band], b);
      }
    }
  }
}

/// Whether features lie behind the width is asked once for every 32 features. With a branch behind each product, none
/// could begin before the last has ended. So sums of up to 31 features behind the width are found without a use.
constexpr int kEighthsAtOnce = 4;

/// sums[band][t] += weights times the features 8 t .. 8 t + 7 of a tile's rows. Sums behind the width are undefined.
/// The weights lie in the fragments as multiply_rows() left its products.
template <class T, int padded_width, int bands, int eighths>
HOPFIELD_DEVICE void multiply_weights(Fragments<bands, padded_width / 8>& sums,
                                      const Fragments<bands, eighths>& weights, const T* tile, int width, bool plain) {
  constexpr int kPitch = kRetrievePitch<T, padded_width>;
  const int g = lane_index() / 4, column = lane_index() % 4;
  if constexpr (!kIsFloat<T>) {
    const int matrix = lane_index() / 8, row = lane_index() % 8;
    const T* y = tile + (matrix % 2 * 8 + row) * kPitch + matrix / 2 * 8;
    HOPFIELD_UNROLL
    for (int j = 0; j < eighths; j += 2) {
      uint32_t a[bands][4];
      HOPFIELD_UNROLL
      for (int i = 0; i < 4 * bands; ++i) {
        const auto& w = weights[i / 4][j + i % 4 / 2];
        a[i / 4][i % 4] = pack_pair<T>(w[2 * (i % 2)], w[2 * (i % 2) + 1]);
      }
      HOPFIELD_UNROLL
      for (int t = 0; t < padded_width / 8; t += 2) {
        if (t % kEighthsAtOnce == 0 && 8 * t >= width) break;
        uint32_t b[4];
        ldmatrix_transposed(b, y + 8 * j * kPitch + 8 * t);
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        HOPFIELD_UNROLL
        for (int band = 0; band < bands; ++band) {
          mma_m16n8k16<T>(sums[band][t], a[band], left);
          mma_m16n8k16<T>(sums[band][t + 1], a[band], right);
        }
      }
    }
  } else if (plain) {
    HOPFIELD_UNROLL
    for (int i = 0; i < bands * eighths / 2; ++i) {
      const int band = i / (eighths / 2), j = 2 * (i % (eighths / 2));
      TwoRows rows;
      HOPFIELD_UNROLL
      for (int n = 0; n < 16; ++n) {
        const int lane = 4 * g + n % 8 / 2;
        rows.upper[n] = shuffle(weights[band][j + n / 8][n % 2], lane);
        rows.lower[n] = shuffle(weights[band][j + n / 8][2 + n % 2], lane);
      }
      HOPFIELD_UNROLL
      for (int t = 0; t < padded_width / 8; ++t) {
        if (t % kEighthsAtOnce == 0 && 8 * t >= width) break;
        rows.multiply_add(sums[band][t], tile + 8 * j * kPitch + 8 * t + 2 * column, kPitch, 16);
      }
    }
  } else {
    HOPFIELD_UNROLL
    for (int j = 0; j < eighths; ++j) {
      // The instruction takes the rows c and c + 4 of a lane. Since the order of rows in the sum is free, both operands
      // have the rows 2 c and 2 c + 1 there, which the lane has at hand.
      Tf32Pieces a[bands];
      HOPFIELD_UNROLL
      for (int band = 0; band < bands; ++band) {
        const auto& w = weights[band][j];
        a[band] = Tf32Pieces({w[0], w[2], w[1], w[3]});
      }
      const float* y = tile + (8 * j + 2 * column) * kPitch + g;
      HOPFIELD_UNROLL
      for (int t = 0; t < padded_width / 8; ++t) {
        if (t % kEighthsAtOnce == 0 && 8 * t >= width) break;
        const Tf32Pair b(y[8 * t], y[kPitch + 8 * t]);
        HOPFIELD_UNROLL
        for (int band = 0; band < bands; ++band) multiply_add_exactly(sums[band][t], a[band], b);
      }
    }
  }
}

}  // namespace hopfield::kernels::cuda
