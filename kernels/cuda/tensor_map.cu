#include <cuda.h>
#include <cuda_runtime.h>
#include <kernels/cuda/remembered.h>
#include <kernels/cuda/tensor_map.h>

#include <variant>

namespace hopfield::kernels::cuda {
namespace {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap),
              "a TensorMap is as large as the driver's");

using Encode = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, without linking to the driver: a program has to start where there is none. Null if the driver
/// has no such function.
Answer<Encode> driver_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const auto error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
  const auto error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess) cudaGetLastError();
  const bool there = error == cudaSuccess && found == cudaDriverEntryPointSuccess;
  return {there ? reinterpret_cast<Encode>(function) : nullptr, error == cudaSuccess};
}

}  // namespace

std::string encode_with_driver(TensorMap& map, const TiledTensor& tensor) {
  static auto& known = *new Remembered<std::monostate, Encode>;  // there is one driver
  const auto encode = known.get({}, driver_encode);
  if (encode == nullptr) return "the driver cannot describe tensors for copies of tiles: it is older than CUDA 12.0";
  const cuuint64_t extents[4] = {static_cast<cuuint64_t>(tensor.columns), static_cast<cuuint64_t>(tensor.rows),
                                 static_cast<cuuint64_t>(tensor.outer), static_cast<cuuint64_t>(tensor.outermost)};
  const cuuint64_t strides[3] = {static_cast<cuuint64_t>(tensor.row_bytes), static_cast<cuuint64_t>(tensor.outer_bytes),
                                 static_cast<cuuint64_t>(tensor.outermost_bytes)};
  const cuuint32_t box[4] = {64, static_cast<cuuint32_t>(tensor.tile_rows), 1, 1}, every[4] = {1, 1, 1, 1};
  const auto result =
      encode(reinterpret_cast<CUtensorMap*>(&map), CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(tensor.data),
             extents, strides, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return {};
  return "the driver does not take a tensor of " + std::to_string(tensor.outermost) + " x " +
         std::to_string(tensor.outer) + " x " + std::to_string(tensor.rows) + " x " + std::to_string(tensor.columns) +
         " numbers, " + std::to_string(tensor.row_bytes) + " bytes to a row, for copies of tiles (error " +
         std::to_string(static_cast<int>(result)) + ")";
}

}  // namespace hopfield::kernels::cuda
