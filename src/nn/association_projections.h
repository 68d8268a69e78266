#pragma once

#include "nn/association_call.h"
#include <hopfield/nn/hopfield.h>

#include <cstdint>

namespace hopfield::nn {

/// Weight and bias of one input projection. An undefined weight: the patterns are static, and not projected.
struct Projection {
  at::Tensor weight, bias;
};
Projection stored_projection(const AssociationCoreImpl& core);
Projection value_projection(const AssociationCoreImpl& core);

/// The projection W (gamma y + delta) + b of patterns behind a LayerNorm with weight gamma and bias delta, as the
/// projection of y alone: W gamma and W delta + b.
Projection with_affine_part(Projection projection, const torch::nn::LayerNorm& norm);

/// [N or 1, rows, heads * d] as [N or 1, heads, rows, d]; ragged [total, heads * d] as [total, heads, d].
at::Tensor split_heads(const at::Tensor& projected, int64_t heads);

/// Normalised states in association space, one for each head: [N or 1, heads, L, d], ragged [total_L, heads, d].
at::Tensor project_state(const AssociationCoreImpl& core, const at::Tensor& state);
/// Values of normalised patterns: [N or 1, heads or 1, S, d_v], ragged [total, heads or 1, d_v].
at::Tensor project_values(const AssociationCoreImpl& core, const at::Tensor& projection);

/// Patterns in association space [N or 1, heads or 1, rows, width], ragged [total, heads or 1, width]. Static patterns
/// have one head, which all heads share.
struct ProjectedPatterns {
  at::Tensor state, stored, values;
};
/// Each role by its own LayerNorm and its own product.
ProjectedPatterns project_one_by_one(HopfieldImpl& layer, const AssociationCall& call);
/// All three roles by one LayerNorm and one product, for AssociationRoute::projected_together only.
ProjectedPatterns project_together(HopfieldImpl& layer, const AssociationCall& call);

}  // namespace hopfield::nn
