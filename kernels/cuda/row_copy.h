#pragma once

#include <kernels/cuda/async_copy.h>

#include <cstdint>

namespace hopfield::kernels::cuda {

/// Begins to copy a row of `width` elements from `source`, aligned to 16 bytes, to shared memory, and zeros behind it
/// up to `padded_width`. If not `taken`, all of it becomes zeros. Eight neighbouring lanes copy 128 bytes at a time.
/// @param begin  number of the calling lane among the eight
template <class T>
HOPFIELD_DEVICE void copy_row(T* target, int padded_width, const T* source, int width, bool taken,
                              int begin = lane_index() % 8) {
  constexpr int kElements = 16 / static_cast<int>(sizeof(T));
  const int pieces = (padded_width + kElements - 1) / kElements;
  const int whole = taken ? width / kElements : 0, tail = taken ? width % kElements * static_cast<int>(sizeof(T)) : 0;
  const T* from = source + begin * kElements;
  T* to = target + begin * kElements;
  HOPFIELD_UNROLL_BY(4)
  for (int piece = begin; piece < pieces; piece += 8, from += 8 * kElements, to += 8 * kElements) {
    const int bytes = piece < whole ? 16 : piece == whole ? tail : 0;
    copy_async_16(to, bytes > 0 ? from : source, bytes);
  }
}

/// Begins to copy `rows` rows, `row_stride` apart, by `threads` threads. Rows that are not `taken(row)` become zeros.
template <class T, int rows, int threads, class Taken>
HOPFIELD_DEVICE void copy_rows(T* tile, int pitch, int padded_width, const T* source, int64_t row_stride, int width,
                               const Taken& taken) {
  for (int row = thread_index() / 8; row < rows; row += threads / 8) {
    const bool copies = taken(row);
    copy_row(tile + row * pitch, padded_width, source + (copies ? row * row_stride : 0), width, copies);
  }
}

}  // namespace hopfield::kernels::cuda
