#pragma once

#include <kernels/cuda/async_copy.h>

#include <cstdint>

namespace hopfield::kernels::cuda {

/// Begins to copy `rows` rows of `width` elements from `source`, aligned to 16 bytes like `row_stride`, to shared
/// memory; those for which not `taken(row)`, and what is behind the width up to `room`, become zeros. By `threads`
/// threads.
template <class T, int rows, int threads, class Taken>
HOPFIELD_DEVICE void copy_rows(T* tile, int pitch, int room, const T* source, int64_t row_stride, int width,
                               const Taken& taken) {
  constexpr int kElements = 16 / static_cast<int>(sizeof(T));
  const int pieces = (room + kElements - 1) / kElements, whole = width / kElements;
  const int tail = width % kElements * static_cast<int>(sizeof(T));
  // Eight lanes to a row, 128 bytes at a time.
  const int begin = lane_index() % 8;
  for (int row = thread_index() / 8; row < rows; row += threads / 8) {
    const bool copies = taken(row);
    const T* from = source + (copies ? row * row_stride : 0) + begin * kElements;
    T* to = tile + row * pitch + begin * kElements;
    const int full = copies ? whole : 0, rest = copies ? tail : 0;
    HOPFIELD_UNROLL_BY(4)
    for (int piece = begin; piece < pieces; piece += 8, from += 8 * kElements, to += 8 * kElements) {
      const int bytes = piece < full ? 16 : piece == full ? rest : 0;
      copy_async_16(to, bytes > 0 ? from : source, bytes);
    }
  }
}

}  // namespace hopfield::kernels::cuda
