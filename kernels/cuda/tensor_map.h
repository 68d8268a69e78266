#pragma once

// Descriptions of tensors in global memory for the hardware that copies tiles of them. The host makes them.

#include <kernels/cuda/host.h>

#include <cstdint>
#include <string>

namespace hopfield::kernels::cuda {

/// Made by encode_tensor_map(), handed to a kernel as part of a HOPFIELD_GRID_CONSTANT parameter: see tensor_copy.h.
#if defined(__CUDACC__)
struct alignas(128) TensorMap {
#else
struct TensorMap {
#endif
  uint64_t words[16];
};

/// Numbers of bfloat16 [outermost, outer, rows, columns], columns contiguous, and the tiles copied of them.
struct TiledTensor {
  const void* data = nullptr;  ///< aligned to 16 bytes
  int64_t columns = 0, rows = 0, outer = 1, outermost = 1;
  int64_t row_bytes = 0, outer_bytes = 0, outermost_bytes = 0;  ///< from one to the next, multiples of 16
  int tile_rows = 0;                                            ///< at most 256; a tile has 64 columns, 128 bytes
};

/// Returns an empty string, or why the driver does not take the tensor.
[[nodiscard]] std::string encode_tensor_map(TensorMap& map, const TiledTensor& tensor);

#if defined(__CUDACC__)
/// Implementation of encode_tensor_map().
std::string encode_with_driver(TensorMap& map, const TiledTensor& tensor);
#endif

inline std::string encode_tensor_map(TensorMap& map, const TiledTensor& tensor) {
#if defined(__CUDACC__)
  return encode_with_driver(map, tensor);
#else
  return cuda_on_host::encode_tensor_map(map.words, {tensor.data,
                                                     {tensor.columns, tensor.rows, tensor.outer, tensor.outermost},
                                                     {tensor.row_bytes, tensor.outer_bytes, tensor.outermost_bytes},
                                                     tensor.tile_rows});
#endif
}

}  // namespace hopfield::kernels::cuda
