#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace hopfield {

/// Ragged rows [total, ...], cut into bags of these sizes and padded with zeros: [bags, largest, ...].
at::Tensor pad_bags(const at::Tensor& values, const std::vector<int64_t>& sizes);

/// The mask of such padding: [bags, largest] bool, true at rows that belong to no bag.
at::Tensor padding_mask_of(const std::vector<int64_t>& sizes, at::Device device);

}  // namespace hopfield
