#pragma once

// Products of a warp's 16 queries with a tile of patterns in shared memory.

#include <kernels/cuda/products.h>

namespace hopfield::kernels::cuda {

constexpr int kRetrieveWarps = 4;
constexpr int kRetrieveThreads = 32 * kRetrieveWarps;
/// Queries of a block: 16 for each warp.
constexpr int kRetrieveRows = 16 * kRetrieveWarps;

/// Patterns of a tile: scores of all of them stay in registers beside sums of `room` features.
template <class T, int room>
constexpr int kRetrieveKeys = (kIsFloat<T> || room > 128) ? 32 : 64;

/// Elements from row to row of a tile, 4 banks further each row: what a warp reads together lies in different banks.
template <class T, int room>
constexpr int kRetrievePitch = room + 16 / static_cast<int>(sizeof(T));

/// Features that a product takes at once.
template <class T>
constexpr int kFeatureStep = kIsFloat<T> ? 8 : 16;

/// `width` up to whole products.
template <class T>
HOPFIELD_DEVICE int product_width(int64_t width) {
  return static_cast<int>((width + kFeatureStep<T> - 1) / kFeatureStep<T>) * kFeatureStep<T>;
}

/// c[j] += products of the warp's 16 queries with the patterns 8 j .. of a tile, over `width` features. Queries [16,
/// pitch], those of 16-bit numbers perhaps with what rounding them left, kRetrieveRows further.
template <class T, int room>
HOPFIELD_DEVICE void multiply_scores(float (&c)[kRetrieveKeys<T, room> / 8][4], const T* queries, const T* tile,
                                     int width, bool split, bool plain) {
  constexpr int kPitch = kRetrievePitch<T, room>, kKeys = kRetrieveKeys<T, room>;
  const int g = lane_index() / 4, column = lane_index() % 4;
  if constexpr (!kIsFloat<T>) {
    const int matrix = lane_index() / 8, row = lane_index() % 8;
    const T* q = queries + (matrix % 2 * 8 + row) * kPitch + matrix / 2 * 8;
    const T* y = tile + (matrix / 2 * 8 + row) * kPitch + matrix % 2 * 8;
    for (int k = 0; k < width; k += 16) {
      uint32_t a[4], rest[4] = {};
      ldmatrix(a, q + k);
      if (split) ldmatrix(rest, q + kRetrieveRows * kPitch + k);
      HOPFIELD_UNROLL
      for (int j = 0; j < kKeys / 8; j += 2) {
        uint32_t b[4];
        ldmatrix(b, y + 8 * j * kPitch + k);
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        if (split) {
          mma_m16n8k16<T>(c[j], rest, left);
          mma_m16n8k16<T>(c[j + 1], rest, right);
        }
        mma_m16n8k16<T>(c[j], a, left);
        mma_m16n8k16<T>(c[j + 1], a, right);
      }
    }
  } else if (plain) {
    const float *q = queries + g * kPitch, *y = tile + 2 * column * kPitch;
    for (int k = 0; k < width; k += 4) {
      const Pack<float> upper = load_pack(q + k), lower = load_pack(q + 8 * kPitch + k);
      HOPFIELD_UNROLL
      for (int j = 0; j < kKeys / 8; ++j) {
        const Pack<float> even = load_pack(y + 8 * j * kPitch + k), odd = load_pack(y + (8 * j + 1) * kPitch + k);
        multiply_add_plainly(c[j], upper, lower, even, odd);
      }
    }
  } else {
    const float *q = queries + g * kPitch + column, *y = tile + g * kPitch + column;
    for (int k = 0; k < width; k += 8) {
      const Tf32Pieces a({q[k], q[8 * kPitch + k], q[k + 4], q[8 * kPitch + k + 4]});
      HOPFIELD_UNROLL
      for (int j = 0; j < kKeys / 8; ++j) {
        multiply_add_exactly(c[j], a, y[8 * j * kPitch + k], y[8 * j * kPitch + k + 4]);
      }
    }
  }
}

/// sums[t] += weights times features 8 t .. of a tile's patterns. The weights are where multiply_scores() left scores.
template <class T, int room>
HOPFIELD_DEVICE void multiply_patterns(float (&sums)[room / 8][4],
                                       const float (&weights)[kRetrieveKeys<T, room> / 8][4], const T* tile, int width,
                                       bool plain) {
  constexpr int kPitch = kRetrievePitch<T, room>, kKeys = kRetrieveKeys<T, room>;
  const int g = lane_index() / 4, column = lane_index() % 4;
  if constexpr (!kIsFloat<T>) {
    const int matrix = lane_index() / 8, row = lane_index() % 8;
    const T* y = tile + (matrix % 2 * 8 + row) * kPitch + matrix / 2 * 8;
    HOPFIELD_UNROLL
    for (int j = 0; j < kKeys / 8; j += 2) {
      const auto &w = weights[j], &next = weights[j + 1];
      const uint32_t a[4] = {pack_pair<T>(w[0], w[1]), pack_pair<T>(w[2], w[3]), pack_pair<T>(next[0], next[1]),
                             pack_pair<T>(next[2], next[3])};
      HOPFIELD_UNROLL
      for (int t = 0; t < room / 8; t += 2) {
        if (8 * t >= width) break;
        uint32_t b[4];
        ldmatrix_transposed(b, y + 8 * j * kPitch + 8 * t);
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        mma_m16n8k16<T>(sums[t], a, left);
        mma_m16n8k16<T>(sums[t + 1], a, right);
      }
    }
  } else if (plain) {
    HOPFIELD_UNROLL
    for (int j = 0; j < kKeys / 8; j += 2) {
      TwoRows rows;
      HOPFIELD_UNROLL
      for (int i = 0; i < 16; ++i) {
        const int lane = 4 * g + i % 8 / 2;
        rows.upper[i] = shuffle(weights[j + i / 8][i % 2], lane);
        rows.lower[i] = shuffle(weights[j + i / 8][2 + i % 2], lane);
      }
      HOPFIELD_UNROLL
      for (int t = 0; t < room / 8; ++t) {
        if (8 * t >= width) break;
        rows.multiply_add(sums[t], tile + 8 * j * kPitch + 8 * t + 2 * column, kPitch, 16);
      }
    }
  } else {
    HOPFIELD_UNROLL
    for (int j = 0; j < kKeys / 8; ++j) {
      // The order of patterns in the sum is free: neighbours stand in for those that are four apart.
      const auto& w = weights[j];
      const Tf32Pieces a({w[0], w[2], w[1], w[3]});
      const float* y = tile + (8 * j + 2 * column) * kPitch + g;
      HOPFIELD_UNROLL
      for (int t = 0; t < room / 8; ++t) {
        if (8 * t >= width) break;
        multiply_add_exactly(sums[t], a, y[8 * t], y[kPitch + 8 * t]);
      }
    }
  }
}

}  // namespace hopfield::kernels::cuda
