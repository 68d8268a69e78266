#include "ops/ragged_queries.h"

#include "core/padding.h"
#include "ops/call_tensors.h"
#include "ops/transforms.h"
#include <hopfield/core/bags.h>

#include <ATen/ATen.h>

namespace hopfield::detail {
RetrieveInput with_padded_queries(RetrieveInput input) {
  if (!input.state_offsets.defined()) return input;
  const auto sizes = bag_sizes(host_numbers(input.state_offsets, at::kLong), input.state.size(0));
  input.state = pad_bags(input.state, sizes).transpose(1, 2);
  return input;
}

RetrieveResult with_ragged_queries(RetrieveResult result, const at::Tensor& state_offsets) {
  if (!state_offsets.defined()) return result;
  const auto padding = padding_of_queries(state_offsets, result.output.device());
  const auto rows = padding.bitwise_not().flatten().nonzero().squeeze(-1);  // of [N * L]
  for (const auto& [name, member] : result_members(result)) {
    auto& tensor = result.*member;
    if (!tensor.defined()) continue;
    tensor = tensor.transpose(1, 2).flatten(0, 1).index_select(0, rows);
  }
  return result;
}

at::Tensor padding_of_queries(const at::Tensor& state_offsets, at::Device device) {
  const auto offsets = host_numbers(state_offsets, at::kLong);
  return padding_mask_of(bag_sizes(offsets, offsets[-1].item<int64_t>()), device);
}

}  // namespace hopfield::detail
