#include "core/padding.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>

#include <algorithm>

namespace hopfield {

at::Tensor pad_bags(const at::Tensor& values, const std::vector<int64_t>& sizes) {
  const auto largest = sizes.empty() ? 0 : *std::max_element(sizes.begin(), sizes.end());
  std::vector<at::Tensor> rows;
  rows.reserve(sizes.size());
  for (const auto& bag : values.split_with_sizes(sizes)) {
    std::vector<int64_t> filler_shape = values.sizes().vec();
    filler_shape[0] = largest - bag.size(0);
    rows.push_back(at::cat({bag, values.new_zeros(filler_shape)}));
  }
  if (rows.empty()) {
    auto shape = values.sizes().vec();
    shape.insert(shape.begin(), 0);
    return values.reshape(shape);
  }
  return at::stack(rows);
}

at::Tensor padding_mask_of(const std::vector<int64_t>& sizes, at::Device device) {
  const auto largest = sizes.empty() ? 0 : *std::max_element(sizes.begin(), sizes.end());
  // Not by at::tensor(): inside a transform of torch.func it would make a wrapper without data_ptr().
  const at::Tensor size = at::detail::empty_cpu({static_cast<int64_t>(sizes.size()), 1}, at::TensorOptions(at::kLong));
  std::copy(sizes.begin(), sizes.end(), size.data_ptr<int64_t>());
  return at::arange(largest, at::kLong).unsqueeze(0).ge(size).to(device);  // [bags, largest]
}

}  // namespace hopfield
