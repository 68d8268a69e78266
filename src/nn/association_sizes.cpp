#include "nn/association_sizes.h"

#include "ops/retrieve_internal.h"

#include <c10/util/Exception.h>

#include <cmath>
#include <string>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, layer, ": ", __VA_ARGS__)

namespace hopfield::nn {
namespace {

void check_positive(const std::string& layer, const std::optional<int64_t>& size, const char* name) {
  HOPFIELD_CHECK(!size || *size > 0, "expected ", name, " to be positive, got ", *size);
}

}  // namespace

void check_settings(const AssociationSettings& s) {
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
  const auto sizes = sizes_of(s);
  if (sizes.all_static) return;
  HOPFIELD_CHECK(s.input_size, "expected input_size to be given: only an all_static() association does without");
  HOPFIELD_CHECK(s.hidden_size || *s.input_size % s.num_heads == 0,
                 "expected input_size to be divisible by num_heads, got ", *s.input_size, " and ", s.num_heads,
                 "; set hidden_size, the width of one head");
  if (!s.pattern_projection_as_connected) return;
  HOPFIELD_CHECK(sizes.stored == sizes.projection,
                 "expected stored_pattern_size and pattern_projection_size to be equal for "
                 "pattern_projection_as_connected, got ",
                 sizes.stored, " and ", sizes.projection);
  HOPFIELD_CHECK(sizes.pattern == sizes.hidden,
                 "expected pattern_size and hidden_size to be equal for pattern_projection_as_connected, got ",
                 *sizes.pattern, " and ", *sizes.hidden);
}

AssociationSizes sizes_of(const AssociationSettings& s) {
  AssociationSizes sizes;
  sizes.all_static = s.stored_pattern_as_static && s.state_pattern_as_static && s.pattern_projection_as_static &&
                     !s.pattern_projection_as_connected && !s.normalize_hopfield_space && s.disable_out_projection;
  if (sizes.all_static) return sizes;
  sizes.state = s.input_size.value_or(0);
  sizes.stored = s.stored_pattern_size.value_or(sizes.state);
  sizes.projection = s.pattern_projection_size.value_or(sizes.state);
  sizes.output = s.output_size.value_or(sizes.state);
  sizes.hidden = s.hidden_size.value_or(sizes.state / s.num_heads);
  sizes.pattern = s.pattern_size.value_or(*sizes.hidden);
  sizes.fused_weights = sizes.stored == sizes.state && sizes.projection == sizes.state && !s.pattern_size &&
                        !s.pattern_projection_as_connected;
  return sizes;
}

}  // namespace hopfield::nn
