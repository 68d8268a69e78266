// Options and patterns that fit together, or a sentence that says why not.

#include "core/masks_checks.h"
#include "nn/association_internal.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <cmath>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, layer, ": ", __VA_ARGS__)

namespace hopfield::nn {
namespace {

at::Tensor as_bool_if_byte(const at::Tensor& mask) {
  return mask.defined() && mask.scalar_type() == at::kByte ? mask.to(at::kBool) : mask;
}

void check_positive(const std::string& layer, const std::optional<int64_t>& size, const char* name) {
  HOPFIELD_CHECK(!size || *size > 0, "expected ", name, " to be positive, got ", *size);
}

/// What may have been meant by something that is no padding mask.
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

AssociationCoreImpl::Sizes AssociationCoreImpl::resolve(const AssociationSettings& s) {
  const auto& layer = s.layer;
  check_positive(layer, s.input_size, "input_size");
  check_positive(layer, s.hidden_size, "hidden_size");
  check_positive(layer, s.output_size, "output_size");
  check_positive(layer, s.pattern_size, "pattern_size");
  check_positive(layer, s.stored_pattern_size, "stored_pattern_size");
  check_positive(layer, s.pattern_projection_size, "pattern_projection_size");
  check_positive(layer, s.num_heads, "num_heads");
  HOPFIELD_CHECK(s.dropout >= 0 && s.dropout <= 1, "expected dropout to be between 0 and 1, got ", s.dropout);
  HOPFIELD_CHECK(s.normalize_hopfield_space || !s.normalize_hopfield_space_affine,
                 "expected normalize_hopfield_space together with normalize_hopfield_space_affine, which has no effect "
                 "without it");
  HOPFIELD_CHECK(!s.concat_bias_pattern || !(s.stored_pattern_as_static || s.pattern_projection_as_static),
                 "expected projected stored patterns and projected values for concat_bias_pattern, got static ones");
  detail::check_iteration(layer.c_str(), s, s.num_heads);
  if (s.scaling) {
    const auto& values = s.scaling->values();
    HOPFIELD_CHECK(values.size() == 1 || static_cast<int64_t>(values.size()) == s.num_heads,
                   "expected scaling to have one value, or one for each of ", s.num_heads, " heads, got ",
                   values.size(), " values");
    for (const auto value : values) HOPFIELD_CHECK(std::isfinite(value), "expected scaling to be finite, got ", value);
  }

  Sizes sizes;
  sizes.all_static = s.stored_pattern_as_static && s.state_pattern_as_static && s.pattern_projection_as_static &&
                     !s.pattern_projection_as_connected && !s.normalize_hopfield_space && s.disable_out_projection;
  if (sizes.all_static) return sizes;

  HOPFIELD_CHECK(s.input_size, "expected input_size to be given: only an all_static() association does without");
  sizes.state = *s.input_size;
  sizes.stored = s.stored_pattern_size.value_or(sizes.state);
  sizes.projection = s.pattern_projection_size.value_or(sizes.state);
  sizes.output = s.output_size.value_or(sizes.state);
  HOPFIELD_CHECK(s.hidden_size || sizes.state % s.num_heads == 0,
                 "expected input_size to be divisible by num_heads, got ", sizes.state, " and ", s.num_heads,
                 "; set hidden_size, the width of one head");
  sizes.hidden = s.hidden_size.value_or(sizes.state / s.num_heads);
  sizes.pattern = s.pattern_size.value_or(*sizes.hidden);
  if (s.pattern_projection_as_connected) {
    HOPFIELD_CHECK(sizes.stored == sizes.projection,
                   "expected stored_pattern_size and pattern_projection_size to be equal for "
                   "pattern_projection_as_connected, got ",
                   sizes.stored, " and ", sizes.projection);
    HOPFIELD_CHECK(sizes.pattern == sizes.hidden,
                   "expected pattern_size and hidden_size to be equal for pattern_projection_as_connected, got ",
                   *sizes.pattern, " and ", *sizes.hidden);
  }
  sizes.fused_weights = sizes.stored == sizes.state && sizes.projection == sizes.state && !s.pattern_size &&
                        !s.pattern_projection_as_connected;
  return sizes;
}

void AssociationCoreImpl::check_patterns(const AssociationInput& patterns, const Offsets& offsets) const {
  const auto& s = settings;
  const auto& layer = s.layer;
  const bool ragged = offsets.stored.defined(), ragged_state = offsets.state.defined();
  HOPFIELD_CHECK(ragged || !ragged_state,
                 "expected offsets of the stored patterns together with state_offsets, got "
                 "none; sequences that attend to themselves have the same offsets twice");
  const auto check = [&](const at::Tensor& tensor, const char* name, int64_t dimensions, std::optional<int64_t> width) {
    const auto shape = dimensions == 2 ? "[total, size]" : s.batch_first ? "[N, rows, size]" : "[rows, N, size]";
    HOPFIELD_CHECK(tensor.defined(), "expected ", name, " to have shape ", shape, ", got an undefined tensor");
    HOPFIELD_CHECK(!tensor.is_nested() && tensor.layout() == at::kStrided, "expected ", name,
                   " to be a dense tensor, got ", tensor.is_nested() ? "a nested one" : c10::str(tensor.layout()),
                   "; ragged patterns are concatenated, with offsets, for associate_bags() and pool_bags()");
    HOPFIELD_CHECK(tensor.dim() == dimensions, "expected ", name, " to have ", dimensions, " dimensions ", shape,
                   ", got ", tensor.sizes());
    HOPFIELD_CHECK(!width || tensor.size(-1) == *width, "expected ", name, " to have size ", width.value_or(0),
                   " in its last dimension, got ", tensor.sizes());
    HOPFIELD_CHECK(at::isFloatingType(tensor.scalar_type()), "expected ", name, " to have a floating-point type, got ",
                   tensor.scalar_type());
  };
  const bool data_decide = sizes_.all_static || (s.state_pattern_as_static && s.stored_pattern_as_static);
  const std::optional<int64_t> any;
  check(patterns.state, "state", ragged_state ? 2 : 3,
        data_decide                 ? any
        : s.state_pattern_as_static ? sizes_.hidden
                                    : sizes_.state);
  check(patterns.stored, "stored", ragged ? 2 : 3,
        data_decide                  ? patterns.state.size(-1)
        : s.stored_pattern_as_static ? sizes_.hidden
                                     : sizes_.stored);
  const bool value_is_used_as_is =
      s.pattern_projection_as_static && !(s.pattern_projection_as_connected && !s.stored_pattern_as_static);
  check(patterns.projection, "projection", ragged ? 2 : 3,
        !value_is_used_as_is       ? sizes_.projection
        : s.disable_out_projection ? any
                                   : sizes_.pattern);
  const auto row_dimension = ragged ? 0 : 1;
  HOPFIELD_CHECK(patterns.stored.size(row_dimension) == patterns.projection.size(row_dimension),
                 "expected projection to have as many patterns as stored, ", patterns.stored.size(row_dimension),
                 ", got ", patterns.projection.size(row_dimension));
  const auto parameters = this->parameters();
  if (parameters.empty()) return;
  const auto& parameter = parameters.front();
  const bool has_autocast = parameter.is_cpu() || parameter.is_cuda();
  if (!has_autocast || !at::autocast::is_autocast_enabled(parameter.device().type())) {
    for (const auto* tensor : {&patterns.state, &patterns.stored, &patterns.projection}) {
      HOPFIELD_CHECK(tensor->scalar_type() == parameter.scalar_type() && tensor->device() == parameter.device(),
                     "expected stored, state and projection to be of type ", parameter.scalar_type(), " on ",
                     parameter.device(), " like the parameters, got ", tensor->scalar_type(), " on ", tensor->device(),
                     "; convert the input, or the module with to()");
    }
  }
}

int64_t AssociationCoreImpl::batch_size(const AssociationInput& patterns, const Offsets& offsets) const {
  const auto& layer = settings.layer;
  if (offsets.stored.defined()) {
    const auto bags = offsets.stored.numel() - 1;
    HOPFIELD_CHECK(offsets.state.defined() || patterns.state.size(0) == bags || patterns.state.size(0) == 1,
                   "expected state to have batch size ", bags, ", the number of bags, or 1, got ",
                   patterns.state.sizes());
    return bags;
  }
  int64_t batch = 1;
  for (const auto* tensor : {&patterns.state, &patterns.stored, &patterns.projection}) {
    if (batch == 1) batch = tensor->size(0);
    HOPFIELD_CHECK(tensor->size(0) == batch || tensor->size(0) == 1,
                   "expected stored, state and projection to have one batch size, or 1, got ", patterns.stored.size(0),
                   ", ", patterns.state.size(0), " and ", patterns.projection.size(0));
  }
  return batch;
}

void set_masks(RetrieveInput& input, const Masks& masks, int64_t batch, int64_t heads, int64_t appended,
               const std::string& layer) {
  detail::check_not_causal(layer.c_str(), masks);
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
  if (masks.key_bias.defined()) {
    HOPFIELD_CHECK(at::isFloatingType(masks.key_bias.scalar_type()) && masks.key_bias.dim() == 2 &&
                       (masks.key_bias.size(0) == batch || masks.key_bias.size(0) == 1) &&
                       masks.key_bias.size(1) == keys,
                   "expected key_bias to be floating-point of shape [N or 1, S] = [", batch, ", ", keys, "], got ",
                   masks.key_bias.sizes(), " of type ", masks.key_bias.scalar_type());
    input.masks.key_bias = widen(masks.key_bias);
  }
}

void check_ragged_masks(const Masks& masks, int64_t total, const std::string& layer) {
  detail::check_not_causal(layer.c_str(), masks);
  HOPFIELD_CHECK(!masks.padding_mask.defined() && !masks.association_mask.defined(),
                 "expected no padding_mask and no association_mask for ragged patterns, got one; use key_bias [total], "
                 "or pad the patterns");
  if (!masks.key_bias.defined()) return;
  HOPFIELD_CHECK(
      at::isFloatingType(masks.key_bias.scalar_type()) && masks.key_bias.dim() == 1 && masks.key_bias.size(0) == total,
      "expected key_bias to be floating-point of shape [total] = [", total, "], got ", masks.key_bias.sizes(),
      " of type ", masks.key_bias.scalar_type());
}

Masks with_batch(Masks masks) {
  for (auto* keys : {&masks.padding_mask, &masks.key_bias}) {
    if (keys->defined() && keys->dim() == 1) *keys = keys->unsqueeze(0);
  }
  return masks;
}

AssociationResult without_batch(AssociationResult result, int64_t batch_dimension) {
  result.output = result.output.squeeze(batch_dimension);
  for (auto* tensor : {&result.state, &result.logsumexp, &result.steps, &result.residual, &result.converged,
                       &result.energy, &result.scores, &result.association}) {
    if (tensor->defined()) *tensor = tensor->squeeze(0);
  }
  return result;
}

}  // namespace hopfield::nn
