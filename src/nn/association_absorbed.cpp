#include "nn/association_internal.h"
#include "ops/device_kernels.h"
#include "ops/transforms.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <algorithm>

namespace hopfield::nn {
bool AssociationCoreImpl::absorbs(int64_t queries, const at::Tensor& instances) const {
  const auto& s = settings;
  const auto device = instances.device().type();
  const auto type = instances.scalar_type();
  const bool fits = type == at::kFloat || type == at::kBFloat16 || (type == at::kHalf && !instances.is_cpu());
  if (detail::device_kernels(device) == nullptr || !fits || !detail::has_values(instances)) return false;
  if (s.backend == Backend::composite) return false;
  if (at::autocast::is_autocast_enabled(device)) return false;
  if (s.stop_rule != StopRule::per_query || s.gradient.kind() == Gradient::Kind::implicit) return false;
  if (s.stored_pattern_as_static || s.pattern_projection_as_static || s.normalize_hopfield_space ||
      appended_rows() > 0 || sizes_.stored != sizes_.projection) {
    return false;
  }
  if (s.normalize_stored_pattern != s.normalize_pattern_projection) return false;
  if (s.normalize_stored_pattern && s.normalize_stored_pattern_eps != s.normalize_pattern_projection_eps) return false;
  const auto& steps = s.update_steps_max.values();
  if (std::any_of(steps.begin(), steps.end(), [](int64_t count) { return count < 0; })) return false;
  // Products of one instance and one head: projected once and then with d numbers, or every time with the raw width.
  const auto T = *std::max_element(steps.begin(), steps.end());
  const auto d_in = sizes_.stored, d = *sizes_.hidden, d_v = *sizes_.pattern;
  return queries * (2 * (T + 1) * d_in - (2 * T + 1) * d - d_v) < d_in * (d + d_v);
}

AssociationResult AssociationCoreImpl::forward_absorbed(const at::Tensor& instances, const at::Tensor& state,
                                                        const at::Tensor& offsets, const Masks& masks,
                                                        const InputNorms& norms, const AssociationRequest& request) {
  const auto heads = settings.num_heads, hidden = *sizes_.hidden, pattern = *sizes_.pattern, width = sizes_.stored;
  const auto keys = stored_projection(), own_values = value_projection();
  auto [key_weight, key_bias] = without_norm(keys.weight, keys.bias, norms.stored.weight, norms.stored.bias);
  // Connected values pass the keys' projection first: two projections are one.
  auto value_weight = own_values.weight, value_bias = own_values.bias;
  if (settings.pattern_projection_as_connected) {
    if (keys.bias.defined()) value_bias = own_values.weight.matmul(keys.bias) + own_values.bias;
    value_weight = own_values.weight.matmul(keys.weight);
  }
  std::tie(value_weight, value_bias) =
      without_norm(value_weight, value_bias, norms.projection.weight, norms.projection.bias);

  PoolInput input;
  input.instances = instances;
  input.offsets = offsets;
  input.state = project_state(state);
  input.weight = key_weight.view({heads, hidden, width});
  if (key_bias.defined()) input.bias = key_bias.view({heads, hidden});
  input.normalize_eps = norms.eps;
  if (offsets.defined()) {
    check_ragged_masks(masks, instances.size(0), settings.layer);
    input.masks.key_bias = masks.key_bias;
  } else {
    RetrieveInput shapes;
    shapes.state = input.state;
    shapes.stored = instances.unsqueeze(1);
    set_masks(shapes, masks, instances.size(0), heads, 0, settings.layer);
    input.masks = shapes.masks;
  }
  const auto r = pool(input, RetrieveOptions(settings)
                                 .beta(beta())
                                 .dropout(is_training() ? settings.dropout : 0.0)
                                 .generator(generator_)
                                 .with_scores(request.association()));

  // Z = W_V mean + mass b_V, one product for each head: [H, N * L, d_in] by [H, d_in, d_v].
  const auto batch = r.output.size(0), queries = r.output.size(2);
  const auto means = r.output.transpose(0, 1).flatten(1, 2);
  auto values = means.bmm(value_weight.view({heads, pattern, width}).transpose(1, 2));
  if (value_bias.defined()) {
    const auto mass = r.mass.transpose(0, 1).flatten(1, 2).unsqueeze(-1).to(values.scalar_type());
    values = values + mass * value_bias.view({heads, 1, pattern});
  }
  const auto merged = values.view({heads, batch, queries, pattern}).permute({1, 2, 0, 3}).flatten(2);
  return finish(merged, r, offsets, instances.size(0), 0);
}

}  // namespace hopfield::nn
