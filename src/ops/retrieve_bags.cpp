// Ragged patterns in plain LibTorch operations.

#include "core/padding.h"
#include "ops/call_tensors.h"
#include "ops/capture.h"
#include "ops/ragged_queries.h"
#include "ops/retrieve_internal.h"
#include "ops/transforms.h"
#include <hopfield/core/bags.h>

#include <ATen/ATen.h>

#include <utility>

namespace hopfield::detail {
namespace {

/// Retrieves from one bag after the other. The result of a bag does not depend on the others.
RetrieveResult retrieve_bags(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed) {
  const auto sizes = bag_sizes(host_numbers(input.offsets, at::kLong), input.stored.size(0));
  const auto bags = static_cast<int64_t>(sizes.size());
  if (bags == 0) {
    RetrieveInput empty{input.state, input.stored.transpose(0, 1).unsqueeze(0).narrow(2, 0, 0)};
    if (input.projection.defined()) empty.projection = input.projection.transpose(0, 1).unsqueeze(0).narrow(2, 0, 0);
    auto result = retrieve_dense(empty, settings, seed, 0);
    if (settings.with_scores) result.scores = result.scores.reshape({0, input.state.size(1), input.state.size(2)});
    return result;
  }
  // All bags come from one split: narrow() would make a gradient of full size for each of them.
  const auto stored = input.stored.split_with_sizes(sizes);
  const auto projection = input.projection.defined() ? input.projection.split_with_sizes(sizes) : stored;
  const auto key_bias =
      input.masks.key_bias.defined() ? input.masks.key_bias.split_with_sizes(sizes) : std::vector<at::Tensor>();
  const auto states = input.state.split(1);
  std::vector<RetrieveResult> parts;
  parts.reserve(bags);
  for (int64_t n = 0; n < bags; ++n) {
    RetrieveInput bag;
    bag.state = states[n];
    bag.masks.is_causal = input.masks.is_causal;
    bag.stored = stored[n].transpose(0, 1).unsqueeze(0);  // [1, H or 1, S, d]
    if (input.projection.defined()) bag.projection = projection[n].transpose(0, 1).unsqueeze(0);
    if (input.masks.key_bias.defined()) bag.masks.key_bias = key_bias[n].view({1, 1, 1, -1});
    parts.push_back(retrieve_dense(bag, settings, seed, n));
    if (settings.with_scores) parts.back().scores = parts.back().scores[0].permute({2, 0, 1});  // [S, H, L]
  }
  RetrieveResult result;
  for (const auto& [name, member] : result_members(result)) {
    if (!(parts.front().*member).defined()) continue;
    std::vector<at::Tensor> pieces;
    pieces.reserve(bags);
    for (const auto& part : parts) pieces.push_back(part.*member);
    result.*member = at::cat(pieces);
  }
  return result;
}

/// The rule per_head compares all bags at once, so they are padded and become one dense call.
RetrieveResult retrieve_bags_padded(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed) {
  const auto sizes = bag_sizes(host_numbers(input.offsets, at::kLong), input.stored.size(0));
  RetrieveInput padded;
  padded.state = input.state;
  padded.masks.is_causal = input.masks.is_causal;
  padded.stored = pad_bags(input.stored, sizes).transpose(1, 2);  // [N, H or 1, S, d]
  if (input.projection.defined()) padded.projection = pad_bags(input.projection, sizes).transpose(1, 2);
  const auto padding = padding_mask_of(sizes, input.state.device());  // [N, S]
  padded.masks.padding_mask = padding.unsqueeze(1).unsqueeze(1);
  if (input.masks.key_bias.defined())
    padded.masks.key_bias = pad_bags(input.masks.key_bias, sizes).unsqueeze(1).unsqueeze(1);
  if (input.state_offsets.defined()) {
    // Padding queries may attend to nothing, so that the stop rule of their heads ignores them.
    const auto nobody =
        padding_of_queries(input.state_offsets, input.state.device()).unsqueeze(1).unsqueeze(-1);  // [N, 1, L, 1]
    padded.masks.association_mask = nobody.expand({-1, -1, -1, padding.size(1)});
  }
  auto result = retrieve_dense(padded, settings, seed, 0);
  if (settings.with_scores) {
    const auto rows = padding.bitwise_not().nonzero();  // [total, 2]: bag and position, in the order of the bags
    result.scores = result.scores.permute({0, 3, 1, 2}).index({rows.select(1, 0), rows.select(1, 1)});
  }
  return result;
}

}  // namespace

RetrieveResult retrieve_composite(const RetrieveInput& given, const RetrieveSettings& settings, uint64_t seed) {
  if (!given.offsets.defined()) return retrieve_dense(given, settings, seed, 0);
  const auto input = with_padded_queries(given);
  TORCH_CHECK(!is_capturing(input.state),
              "hopfield::retrieve: expected dense patterns where plain LibTorch operations retrieve while a CUDA graph "
              "is being captured, got ragged ones, whose offsets these read; pad the bags with a padding_mask");
  TORCH_CHECK(has_values(input.offsets),
              "hopfield::retrieve: expected dense patterns where torch.func transforms a call inside of torch.compile, "
              "got ragged ones, whose offsets have no values there; pad the bags with a padding_mask");
  auto result = settings.stop_rule == StopRule::per_query ? retrieve_bags(input, settings, seed)
                                                          : retrieve_bags_padded(input, settings, seed);
  return with_ragged_queries(std::move(result), input.state_offsets);
}

}  // namespace hopfield::detail
