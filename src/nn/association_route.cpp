#include "nn/association_route.h"

#include "nn/appended_patterns.h"
#include "nn/association_sizes.h"
#include "ops/device_kernels.h"
#include "ops/transforms.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <algorithm>

namespace hopfield::nn {
namespace {

/// Whether pool() can express what the options ask for: keys and values that are one LayerNorm, without its affine
/// part, and then linear functions of the same patterns.
bool options_allow_pool(const AssociationSettings& s) {
  if (s.backend == Backend::composite) return false;
  if (s.stop_rule != StopRule::per_query || s.gradient.kind() == Gradient::Kind::implicit) return false;
  const auto& steps = s.update_steps_max.values();
  if (std::any_of(steps.begin(), steps.end(), [](int64_t count) { return count < 0; })) return false;
  if (s.stored_pattern_as_static || s.pattern_projection_as_static || s.normalize_hopfield_space) return false;
  if (appended_rows(s) > 0 || sizes_of(s).stored != sizes_of(s).projection) return false;
  if (s.normalize_stored_pattern != s.normalize_pattern_projection) return false;
  return !s.normalize_stored_pattern || s.normalize_stored_pattern_eps == s.normalize_pattern_projection_eps;
}

/// Whether so few queries cost less on the patterns as they come. This counts the multiplications of one stored pattern
/// and one head. Projecting it takes d_in (d + d_v) of them, after which a query takes (2 T + 1) d + d_v. Without
/// projections a query takes 2 (T + 1) d_in.
///
/// The count leaves out what absorbing costs for each query, whatever the number of stored patterns. Queries that the
/// batch shares pool bags, which are large, so that this matters little. Queries of each batch element, as in
/// attention, may meet few stored patterns. Absorbing them has to halve the count: where d = d_v, it then takes no more
/// multiplications in all from 2 L (T + 1) stored patterns on.
bool absorbing_costs_less(const AssociationSettings& s, int64_t queries, bool batch_shares_queries) {
  const auto sizes = sizes_of(s);
  const auto& steps = s.update_steps_max.values();
  const auto T = *std::max_element(steps.begin(), steps.end());
  const auto d_in = sizes.stored, d = *sizes.hidden, d_v = *sizes.pattern;
  const auto absorbed = queries * 2 * (T + 1) * d_in;
  const auto projected = d_in * (d + d_v) + queries * ((2 * T + 1) * d + d_v);
  return (batch_shares_queries ? 1 : 2) * absorbed < projected;
}

/// Whether the device's kernels of pool() serve the call. Without them pool() is no faster than retrieve(), for which
/// there may be kernels: those of the GPU for pool() take no association mask and no patterns of any width.
bool has_fused_pool(const AssociationSettings& settings, const AssociationCall& call) {
  const auto& stored = call.patterns.stored;
  const auto device = stored.device().type();
  const auto type = stored.scalar_type();
  const bool fits = type == at::kFloat || type == at::kBFloat16 || (type == at::kHalf && !stored.is_cpu());
  const auto* kernels = detail::device_kernels(device);
  if (settings.separation.kind() != Separation::Kind::softmax) return false;
  if (!fits || kernels == nullptr || !detail::has_values(stored) || at::autocast::is_autocast_enabled(device)) {
    return false;
  }
  detail::OpCall shapes;
  shapes.input.stored = stored;
  shapes.input.masks = call.masks;
  shapes.weight = stored.new_empty({0, *sizes_of(settings).hidden, stored.size(-1)});
  shapes.settings = RetrieveOptions(settings).settings();
  return !kernels->reason_against(shapes);
}

bool is_absorbed(const AssociationSettings& settings, const AssociationCall& call) {
  const auto& [state, stored, projection] = call.patterns;
  // A sequence that attends to itself has as many stored patterns as queries: absorbing never costs less there.
  if (!projection.is_same(stored) || state.is_same(stored)) return false;
  // pool() gives no energy and takes no ragged queries and no causal masks.
  if (call.request.energy() || call.state_offsets.defined() || call.masks.is_causal) return false;
  if (!options_allow_pool(settings)) return false;
  // Stored patterns that the batch shares are projected once for all of it.
  const auto bags = call.offsets.defined() ? call.offsets.numel() - 1 : stored.size(0);
  if (state.size(0) != 1 && state.size(0) != bags) return false;
  return absorbing_costs_less(settings, state.size(1), state.size(0) == 1) && has_fused_pool(settings, call);
}

bool is_projected_together(const AssociationSettings& s, const AssociationCall& call) {
  const auto& [state, stored, projection] = call.patterns;
  if (!state.is_same(stored) || !projection.is_same(stored) || call.offsets.defined()) return false;
  // Stored patterns that a mask excludes are replaced by zeros, but the same rows are queries too, and stay.
  if (call.masks.padding_mask.defined() || call.masks.association_mask.defined() || call.masks.key_bias.defined()) {
    return false;
  }
  const bool same_norms = s.normalize_stored_pattern == s.normalize_state_pattern &&
                          s.normalize_stored_pattern == s.normalize_pattern_projection &&
                          s.normalize_stored_pattern_eps == s.normalize_state_pattern_eps &&
                          s.normalize_stored_pattern_eps == s.normalize_pattern_projection_eps &&
                          s.normalize_stored_pattern_affine == s.normalize_state_pattern_affine &&
                          s.normalize_stored_pattern_affine == s.normalize_pattern_projection_affine;
  return same_norms && !s.state_pattern_as_static && !s.stored_pattern_as_static && !s.pattern_projection_as_static &&
         sizes_of(s).fused_weights;
}

}  // namespace

AssociationRoute choose_route(const AssociationSettings& settings, const AssociationCall& call) {
  if (is_absorbed(settings, call)) return AssociationRoute::absorbed;
  if (is_projected_together(settings, call)) return AssociationRoute::projected_together;
  return AssociationRoute::projected_one_by_one;
}

}  // namespace hopfield::nn
