#include "theory/head_masks.h"

#include "core/mask.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, function, ": ", __VA_ARGS__)

namespace hopfield::theory {
namespace {

bool one_or(int64_t size, int64_t full) { return size == 1 || size == full; }

std::string row_shape(const char* name, const HeadSizes& sizes, int64_t rows, bool batched) {
  return batched ? c10::str("[N, ", name, "] = [", sizes.batch, ", ", rows, "]")
                 : c10::str("[", name, "] = [", rows, "]");
}

bool has_row_shape(const at::Tensor& tensor, const HeadSizes& sizes, int64_t rows, bool batched, bool may_be_shared) {
  if (tensor.dim() != (batched ? 2 : 1) || tensor.size(-1) != rows) return false;
  return !batched || tensor.size(0) == sizes.batch || (may_be_shared && tensor.size(0) == 1);
}

/// A mask of single scores [L, S], [N * H, L, S] or [N, H, L, S] with its four dimensions.
at::Tensor with_all_dimensions(const at::Tensor& mask, const HeadSizes& sizes) {
  if (mask.dim() == 2) return mask.unsqueeze(0).unsqueeze(0);
  return mask.dim() == 3 ? mask.unflatten(0, {sizes.batch, sizes.heads}) : mask;
}

}  // namespace

void for_each_tile(const HeadSizes& sizes, int64_t rows, const std::function<void(const HeadTile&)>& visit) {
  if (sizes.batch == 0 || sizes.queries == 0) return;
  const auto queries = std::clamp<int64_t>(rows, 1, sizes.queries);
  const auto samples = std::clamp<int64_t>(rows / sizes.queries, 1, sizes.batch);
  for (int64_t n = 0; n < sizes.batch; n += samples) {
    for (int64_t l = 0; l < sizes.queries; l += queries) {
      visit({n, std::min(samples, sizes.batch - n), l, std::min(queries, sizes.queries - l)});
    }
  }
}

int64_t rows_of_tile(const HeadSizes& sizes, int64_t tile) {
  return tile / std::max<int64_t>(1, sizes.heads * sizes.keys);
}

at::Tensor tile_of(const at::Tensor& tensor, const HeadTile& tile) {
  const auto samples = tensor.size(0) == 1 ? tensor : tensor.narrow(0, tile.first_sample, tile.samples);
  return samples.size(2) == 1 ? samples : samples.narrow(2, tile.first_query, tile.queries);
}

void check_head_masks(const char* function, const Masks& masks, const HeadSizes& sizes, bool batched) {
  if (const auto& mask = masks.padding_mask; mask.defined()) {
    HOPFIELD_CHECK(mask.scalar_type() == at::kBool && has_row_shape(mask, sizes, sizes.keys, batched, false),
                   "expected padding_mask to be bool (true: excluded) of shape ",
                   row_shape("S", sizes, sizes.keys, batched), ", got ", mask.sizes(), " of type ", mask.scalar_type());
  }
  if (const auto& bias = masks.key_bias; bias.defined()) {
    HOPFIELD_CHECK(at::isFloatingType(bias.scalar_type()) && has_row_shape(bias, sizes, sizes.keys, batched, true),
                   "expected key_bias to be floating-point of shape ", row_shape("S", sizes, sizes.keys, batched),
                   ", got ", bias.sizes(), " of type ", bias.scalar_type());
  }
  if (const auto& mask = masks.association_mask; mask.defined()) {
    HOPFIELD_CHECK(mask.scalar_type() == at::kBool || at::isFloatingType(mask.scalar_type()),
                   "expected association_mask to be bool (true: excluded) or floating-point (added), got ",
                   mask.scalar_type());
    const auto dimensions = mask.dim();
    bool fits = dimensions >= 2 && dimensions <= 4 && mask.size(-1) == sizes.keys;
    if (fits && dimensions < 4) fits = mask.size(-2) == sizes.queries;
    if (fits && dimensions == 3) fits = mask.size(0) == sizes.batch * sizes.heads;
    if (fits && dimensions == 4) {
      fits =
          one_or(mask.size(0), sizes.batch) && one_or(mask.size(1), sizes.heads) && one_or(mask.size(2), sizes.queries);
    }
    HOPFIELD_CHECK(fits, "expected association_mask to have shape [L, S] = [", sizes.queries, ", ", sizes.keys,
                   "], [N * H, L, S], or one entry (or 1) for each of [N, H, L, S] = [", sizes.batch, ", ", sizes.heads,
                   ", ", sizes.queries, ", ", sizes.keys, "], got ", mask.sizes());
  }
}

at::Tensor ignored_queries(const char* function, const at::Tensor& query_mask, const HeadSizes& sizes, bool batched) {
  if (!query_mask.defined()) return {};
  HOPFIELD_CHECK(
      query_mask.scalar_type() == at::kBool && has_row_shape(query_mask, sizes, sizes.queries, batched, false),
      "expected query_mask to be bool (true: does not count) of shape ", row_shape("L", sizes, sizes.queries, batched),
      ", got ", query_mask.sizes(), " of type ", query_mask.scalar_type());
  return query_mask.view({sizes.batch, 1, sizes.queries, 1});
}

std::vector<at::Tensor> excluded_keys(const Masks& masks, const HeadSizes& sizes, at::Device device) {
  std::vector<at::Tensor> excluded;
  const auto add_keys = [&](const at::Tensor& keys) { excluded.push_back(keys.reshape({-1, 1, 1, sizes.keys})); };
  if (masks.padding_mask.defined()) add_keys(masks.padding_mask);
  if (masks.key_bias.defined()) add_keys(masks.key_bias.isneginf());
  if (masks.is_causal) {
    excluded.push_back(core::behind_queries(sizes.queries, sizes.keys, device).unsqueeze(0).unsqueeze(0));
  }
  if (const auto& mask = masks.association_mask; mask.defined()) {
    excluded.push_back(with_all_dimensions(mask.scalar_type() == at::kBool ? mask : mask.isneginf(), sizes));
  }
  return excluded;
}

at::Tensor excluded_keys_of(const std::vector<at::Tensor>& excluded, const HeadTile& tile) {
  at::Tensor all;
  for (const auto& one : excluded) {
    const auto part = tile_of(one, tile);
    all = all.defined() ? all.logical_or(part) : part;
  }
  return all;
}

}  // namespace hopfield::theory
