#include "cuda_on_host/tensor_copy.h"

#include <algorithm>

namespace hopfield::cuda_on_host {
namespace {

constexpr size_t kWords = 16;

std::string refusal(const TensorOnHost& tensor) {
  const auto within = [](int64_t value, int64_t most) { return value >= 1 && value <= most; };
  if (reinterpret_cast<uintptr_t>(tensor.data) % 16 != 0) return "a tensor begins at a multiple of 16 bytes";
  for (const auto extent : tensor.extents) {
    if (!within(extent, int64_t{1} << 32)) return "a tensor's extents are 1 to 2^32";
  }
  for (const auto stride : tensor.strides) {
    if (!within(stride, (int64_t{1} << 40) - 1) || stride % 16 != 0) {
      return "a tensor's strides are multiples of 16 bytes, below 2^40";
    }
  }
  return within(tensor.tile_rows, 256) ? "" : "a tile has 1 to 256 rows";
}

}  // namespace

std::string encode_tensor_map(uint64_t* words, const TensorOnHost& tensor) {
  if (auto reason = refusal(tensor); !reason.empty()) return reason;
  std::fill_n(words, kWords, 0);
  static_assert(sizeof(TensorOnHost) <= kWords * sizeof(uint64_t), "a tensor map has 128 bytes");
  std::memcpy(words, &tensor, sizeof tensor);
  return {};
}

TensorOnHost decode_tensor_map(const uint64_t* words) {
  TensorOnHost tensor;
  std::memcpy(&tensor, words, sizeof tensor);
  return tensor;
}

}  // namespace hopfield::cuda_on_host
