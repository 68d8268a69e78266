#include "nn/association_masks.h"

#include "core/mask.h"

#include <ATen/ATen.h>

#include <limits>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, layer, ": ", __VA_ARGS__)

namespace hopfield::nn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

at::Tensor as_bool_if_byte(const at::Tensor& mask) {
  return mask.defined() && mask.scalar_type() == at::kByte ? mask.to(at::kBool) : mask;
}

/// A hint at what users may have meant who gave something that is no padding mask.
const char* hint_for_padding(const at::Tensor& given, int64_t queries, int64_t keys) {
  if (given.dim() == 3 && given.size(-1) != keys) {
    return "; forward() takes one set of patterns: give query, key and value to associate({state, stored, projection})";
  }
  if (given.dim() >= 2 && given.size(-1) == keys && given.size(-2) == queries) {
    return "; a mask of single scores is the association_mask, which forward() takes behind the padding_mask";
  }
  if (at::isFloatingType(given.scalar_type())) {
    return "; numbers that are added to the scores of a key are the key_bias of the masks that associate() takes";
  }
  return "";
}

}  // namespace

void set_masks(RetrieveInput& input, const Masks& masks, int64_t batch, int64_t heads, int64_t appended,
               const std::string& layer) {
  const auto queries = input.state.size(2), keys = input.stored.size(-2) - appended;
  const auto widen = [&](const at::Tensor& mask) {
    return appended > 0 && mask.defined() ? at::constant_pad_nd(mask, {0, appended}, 0) : mask;
  };
  const auto padding = as_bool_if_byte(masks.padding_mask);
  if (padding.defined()) {
    HOPFIELD_CHECK(
        padding.scalar_type() == at::kBool && padding.dim() == 2 && padding.size(0) == batch && padding.size(1) == keys,
        "expected padding_mask to be bool (true: excluded) of shape [N, S] = [", batch, ", ", keys, "], got ",
        padding.sizes(), " of type ", padding.scalar_type(), hint_for_padding(padding, queries, keys));
    input.masks.padding_mask = widen(padding);
  }
  const auto mask = as_bool_if_byte(masks.association_mask);
  if (mask.defined()) {
    HOPFIELD_CHECK(mask.scalar_type() == at::kBool || at::isFloatingType(mask.scalar_type()),
                   "expected association_mask to be bool (true: excluded) or floating-point (added), got ",
                   mask.scalar_type());
    const bool fits = (mask.dim() == 2 || (mask.dim() == 3 && mask.size(0) == batch * heads)) &&
                      mask.size(-2) == queries && mask.size(-1) == keys;
    HOPFIELD_CHECK(fits, "expected association_mask to have shape [L, S] = [", queries, ", ", keys,
                   "] or [N * num_heads, L, S] = [", batch * heads, ", ", queries, ", ", keys, "], got ", mask.sizes());
    const auto widened = widen(mask);
    input.masks.association_mask = mask.dim() == 2 ? widened : widened.unflatten(0, {batch, heads});
  }
  input.masks.is_causal = masks.is_causal && appended == 0;
  if (masks.is_causal && appended > 0) {
    // Every query attends to appended patterns, which come last: a mask of single scores says so.
    const auto behind = widen(core::behind_queries(queries, keys, input.state.device()));
    auto& all = input.masks.association_mask;
    if (!all.defined()) {
      all = behind;
    } else {
      all = all.scalar_type() == at::kBool ? all.logical_or(behind) : all.masked_fill(behind, -kInfinity);
    }
  }
  if (masks.key_bias.defined()) {
    HOPFIELD_CHECK(at::isFloatingType(masks.key_bias.scalar_type()) && masks.key_bias.dim() == 2 &&
                       (masks.key_bias.size(0) == batch || masks.key_bias.size(0) == 1) &&
                       masks.key_bias.size(1) == keys,
                   "expected key_bias to be floating-point of shape [N or 1, S] = [", batch, ", ", keys, "], got ",
                   masks.key_bias.sizes(), " of type ", masks.key_bias.scalar_type());
    input.masks.key_bias = widen(masks.key_bias);
  }
}

void check_ragged_masks(const Masks& masks, int64_t total, int64_t appended, const std::string& layer) {
  HOPFIELD_CHECK(
      !masks.is_causal || appended == 0,
      "expected no appended patterns (concat_bias_pattern, add_zero_association) together with is_causal for "
      "ragged patterns, got ",
      appended, " of them; pad the patterns");
  HOPFIELD_CHECK(!masks.padding_mask.defined() && !masks.association_mask.defined(),
                 "expected no padding_mask and no association_mask for ragged patterns, got one; use key_bias [total], "
                 "or pad the patterns");
  if (!masks.key_bias.defined()) return;
  HOPFIELD_CHECK(
      at::isFloatingType(masks.key_bias.scalar_type()) && masks.key_bias.dim() == 1 && masks.key_bias.size(0) == total,
      "expected key_bias to be floating-point of shape [total] = [", total, "], got ", masks.key_bias.sizes(),
      " of type ", masks.key_bias.scalar_type());
}

at::Tensor without_excluded(const at::Tensor& patterns, const Masks& masks) {
  at::Tensor excluded;
  if (const auto& padding = masks.padding_mask; padding.defined()) excluded = padding.to(at::kBool);
  if (masks.key_bias.defined()) {
    const auto infinite = at::isneginf(masks.key_bias);
    excluded = excluded.defined() ? excluded.logical_or(infinite) : infinite;
  }
  if (!excluded.defined()) return patterns;
  if (patterns.dim() == 2 && excluded.sizes() == patterns.sizes().slice(0, 1)) {
    return patterns.masked_fill(excluded.unsqueeze(-1), 0.0);  // ragged
  }
  if (patterns.dim() != 3 || excluded.dim() != 2 || excluded.size(1) != patterns.size(1)) return patterns;
  if (excluded.size(0) != patterns.size(0)) excluded = excluded.all(0, /*keepdim=*/true);
  return patterns.masked_fill(excluded.unsqueeze(-1), 0.0);
}

at::Tensor without_unusable_padding(const at::Tensor& state, const Masks& masks) {
  if (!masks.padding_mask.defined() || masks.padding_mask.sizes() != state.sizes().slice(0, state.dim() - 1)) {
    return state;
  }
  const auto is_finite = at::isfinite(state.detach()).all(-1);
  const auto unusable = is_finite.logical_not().logical_and(masks.padding_mask.to(at::kBool));
  return state.masked_fill(unusable.unsqueeze(-1), 0.0);
}

}  // namespace hopfield::nn
