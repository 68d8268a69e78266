#pragma once

// Copies of tiles as the tensor memory accelerator makes them: the host bodies of kernels/cuda/tensor_copy.h and
// tensor_map.h.

#include "cuda_on_host/async_copy.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace hopfield::cuda_on_host {

/// Extents and coordinates: columns first. Columns of two bytes are contiguous.
struct TensorOnHost {
  const void* data;
  std::array<int64_t, 4> extents;
  std::array<int64_t, 3> strides;  // bytes
  int64_t tile_rows;
};

/// Refuses what cuTensorMapEncodeTiled refuses.
std::string encode_tensor_map(uint64_t* words, const TensorOnHost& tensor);
TensorOnHost decode_tensor_map(const uint64_t* words);

constexpr int64_t kTileRow = 128;  // bytes

inline void copy_tile(void* shared, const uint64_t* map, const std::array<int64_t, 4>& at, uint64_t* barrier) {
  const auto tensor = decode_tensor_map(map);
  const auto bytes = static_cast<size_t>(tensor.tile_rows * kTileRow);
  require(shared_address(shared) % 1024 == 0, "a tile of rows of 128 bytes is copied to a multiple of 1024 bytes");
  require_shared(shared, bytes, "copy_tile writes the shared memory of the calling block only");
  use_memory_barrier(barrier);
  std::vector<unsigned char> tile(bytes, 0);
  for (int64_t row = 0; row < tensor.tile_rows; ++row) {
    const std::array<int64_t, 3> outer{at[1] + row, at[2], at[3]};
    int64_t from = 0;
    bool inside = true;
    for (size_t i = 0; i < 3; ++i) {
      inside = inside && outer[i] >= 0 && outer[i] < tensor.extents[i + 1];
      from += outer[i] * tensor.strides[i];
    }
    for (int64_t column = 0; inside && column < kTileRow / 2; ++column) {
      if (at[0] + column < 0 || at[0] + column >= tensor.extents[0]) continue;
      const auto place = row * kTileRow + swizzled(static_cast<uint32_t>(row * kTileRow + 2 * column)) % kTileRow;
      std::memcpy(tile.data() + place, static_cast<const unsigned char*>(tensor.data) + from + 2 * (at[0] + column), 2);
    }
  }
  std::memset(shared, 0xFF, bytes);
  queue_bulk(shared, tile.data(), static_cast<uint32_t>(bytes), barrier);
}

}  // namespace hopfield::cuda_on_host
