#include "nn/association_masks.h"
#include "nn/association_norms.h"
#include "nn/association_pass.h"
#include "nn/association_sizes.h"
#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>

namespace hopfield::nn {
namespace {

/// The values' projection as one product, also where values pass the keys' projection first: V = P W_K W_V.
Projection value_projection_in_one(const AssociationCoreImpl& core) {
  auto values = value_projection(core);
  if (!core.settings.pattern_projection_as_connected) return values;
  const auto keys = stored_projection(core);
  if (keys.bias.defined()) values.bias = values.weight.matmul(keys.bias) + values.bias;
  values.weight = values.weight.matmul(keys.weight);
  return values;
}

PoolInput pool_input(HopfieldImpl& layer, const AssociationCall& call) {
  const auto& core = *layer.association_core;
  const auto& s = core.settings;
  const auto& instances = call.patterns.stored;
  const auto hidden = *sizes_of(s).hidden;
  const auto keys = with_affine_part(stored_projection(core), layer.norm_stored_pattern);

  PoolInput input;
  input.instances = instances;
  input.offsets = call.offsets;
  input.state = project_state(core, normalized_state(layer, call.patterns.state));
  input.weight = keys.weight.view({s.num_heads, hidden, instances.size(-1)});
  if (keys.bias.defined()) input.bias = keys.bias.view({s.num_heads, hidden});
  if (s.normalize_stored_pattern) input.normalize_eps = s.normalize_stored_pattern_eps;
  if (call.offsets.defined()) {
    check_ragged_masks(call.masks, instances.size(0), 0, s.layer);
    input.masks.key_bias = call.masks.key_bias;
  } else {
    RetrieveInput shapes;
    shapes.state = input.state;
    shapes.stored = instances.unsqueeze(1);
    set_masks(shapes, call.masks, instances.size(0), s.num_heads, 0, s.layer);
    input.masks = shapes.masks;
  }
  return input;
}

}  // namespace

AssociationResult associate_absorbed(HopfieldImpl& layer, const AssociationCall& call) {
  auto& core = *layer.association_core;
  const auto r = pool(pool_input(layer, call), retrieve_options(core, call.request));
  const auto values = with_affine_part(value_projection_in_one(core), layer.norm_pattern_projection);

  // Z = W_V mean + mass b_V, one product for each head: [H, N * L, d_in] by [H, d_in, d_v].
  const auto heads = core.settings.num_heads, pattern = *sizes_of(core.settings).pattern;
  const auto batch = r.output.size(0), queries = r.output.size(2), width = r.output.size(3);
  const auto means = r.output.transpose(0, 1).flatten(1, 2);
  auto read_out = means.bmm(values.weight.view({heads, pattern, width}).transpose(1, 2));
  if (values.bias.defined()) {
    const auto mass = r.mass.transpose(0, 1).flatten(1, 2).unsqueeze(-1).to(read_out.scalar_type());
    read_out = read_out + mass * values.bias.view({heads, 1, pattern});
  }
  const auto merged = read_out.view({heads, batch, queries, pattern}).permute({1, 2, 0, 3}).flatten(2);
  return finish(core, call, merged, r);
}

}  // namespace hopfield::nn
