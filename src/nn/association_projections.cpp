#include "nn/association_projections.h"

#include "nn/association_norms.h"
#include "nn/association_sizes.h"

#include <ATen/ATen.h>

#include <vector>

namespace hopfield::nn {
namespace {

Projection state_projection(const AssociationCoreImpl& core) {
  if (core.settings.state_pattern_as_static) return {};
  const auto sizes = sizes_of(core.settings);
  const auto rows = core.settings.num_heads * *sizes.hidden;
  return {sizes.fused_weights ? core.in_proj_weight.narrow(0, 0, rows) : core.q_proj_weight,
          core.in_proj_bias.defined() ? core.in_proj_bias.narrow(0, 0, rows) : at::Tensor()};
}

at::Tensor project(const AssociationCoreImpl& core, const at::Tensor& patterns, const Projection& projection) {
  if (!projection.weight.defined()) return split_heads(patterns, 1);
  return split_heads(at::linear(patterns, projection.weight, projection.bias), core.settings.num_heads);
}

/// The LayerNorm in association space, if the options ask for it.
at::Tensor normalize_heads(const AssociationCoreImpl& core, const at::Tensor& heads) {
  if (!core.settings.normalize_hopfield_space) return heads;
  return at::layer_norm(heads, {heads.size(-1)}, core.p_norm_weight, core.p_norm_bias,
                        core.settings.normalize_hopfield_space_eps);
}

}  // namespace

Projection stored_projection(const AssociationCoreImpl& core) {
  if (core.settings.stored_pattern_as_static) return {};
  const auto sizes = sizes_of(core.settings);
  const auto rows = core.settings.num_heads * *sizes.hidden;
  const auto first = core.settings.state_pattern_as_static ? 0 : rows;
  return {sizes.fused_weights ? core.in_proj_weight.narrow(0, first, rows) : core.k_proj_weight,
          core.in_proj_bias.defined() ? core.in_proj_bias.narrow(0, first, rows) : at::Tensor()};
}

Projection value_projection(const AssociationCoreImpl& core) {
  if (core.settings.pattern_projection_as_static) return {};
  const auto sizes = sizes_of(core.settings);
  const auto rows = core.settings.num_heads * *sizes.pattern;
  const auto last = [&](const at::Tensor& tensor) { return tensor.narrow(0, tensor.size(0) - rows, rows); };
  return {sizes.fused_weights ? last(core.in_proj_weight) : core.v_proj_weight,
          core.in_proj_bias.defined() ? last(core.in_proj_bias) : at::Tensor()};
}

Projection with_affine_part(Projection projection, const torch::nn::LayerNorm& norm) {
  if (!norm || !norm->weight.defined()) return projection;
  const auto shift = projection.weight.matmul(norm->bias);
  return {projection.weight * norm->weight, projection.bias.defined() ? projection.bias + shift : shift};
}

at::Tensor split_heads(const at::Tensor& projected, int64_t heads) {
  auto shape = projected.sizes().vec();
  shape.back() /= heads;
  shape.insert(shape.end() - 1, heads);
  const auto split = projected.view(shape);
  return split.dim() == 4 ? split.transpose(1, 2) : split;
}

at::Tensor project_state(const AssociationCoreImpl& core, const at::Tensor& state) {
  const auto projected = normalize_heads(core, project(core, state, state_projection(core)));
  auto shape = std::vector<int64_t>(projected.dim(), -1);
  shape[1] = core.settings.num_heads;
  return projected.expand(shape);
}

at::Tensor project_values(const AssociationCoreImpl& core, const at::Tensor& projection) {
  auto values = projection;
  const auto keys = stored_projection(core);
  const bool through_keys = core.settings.pattern_projection_as_connected && keys.weight.defined();
  if (through_keys) values = at::linear(values, keys.weight, keys.bias);
  const auto own = value_projection(core);
  if (own.weight.defined()) values = at::linear(values, own.weight, own.bias);
  const bool heads_share = !through_keys && !own.weight.defined();
  return split_heads(values, heads_share ? 1 : core.settings.num_heads);
}

ProjectedPatterns project_one_by_one(HopfieldImpl& layer, const AssociationCall& call) {
  const auto& core = *layer.association_core;
  const auto normalized = normalized_patterns(layer, call);
  return {project_state(core, normalized.state),
          normalize_heads(core, project(core, normalized.stored, stored_projection(core))),
          project_values(core, normalized.projection)};
}

ProjectedPatterns project_together(HopfieldImpl& layer, const AssociationCall& call) {
  const auto& core = *layer.association_core;
  const auto& norm = layer.norm_state_pattern;  // those of the other roles differ in their affine parts alone
  auto patterns = call.patterns.state;
  if (norm) patterns = at::layer_norm(patterns, {patterns.size(-1)}, {}, {}, norm->options.eps());

  auto weight = core.in_proj_weight, bias = core.in_proj_bias;
  const auto state = with_affine_part(state_projection(core), norm);
  const auto stored = with_affine_part(stored_projection(core), layer.norm_stored_pattern);
  const auto values = with_affine_part(value_projection(core), layer.norm_pattern_projection);
  if (norm && norm->weight.defined()) {
    weight = at::cat({state.weight, stored.weight, values.weight});
    bias = at::cat({state.bias, stored.bias, values.bias});
  }
  const auto parts = at::linear(patterns, weight, bias)
                         .split_with_sizes({state.weight.size(0), stored.weight.size(0), values.weight.size(0)}, -1);
  const auto heads = core.settings.num_heads;
  return {normalize_heads(core, split_heads(parts[0], heads)), normalize_heads(core, split_heads(parts[1], heads)),
          split_heads(parts[2], heads)};
}

}  // namespace hopfield::nn
