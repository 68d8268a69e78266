#include "nn/association_norms.h"

#include "nn/association_masks.h"

namespace hopfield::nn {
namespace {

at::Tensor apply_norm(const HopfieldImpl& layer, torch::nn::LayerNorm& norm, const at::Tensor& patterns,
                      const char* name) {
  if (!norm) return patterns;
  const auto size = norm->options.normalized_shape().front();
  TORCH_CHECK(patterns.size(-1) == size, layer.options.settings().layer, ": expected ", name, " to have size ", size,
              " for its LayerNorm, got ", patterns.sizes(), "; switch the norm off, or set the option of its size");
  return norm->forward(patterns);
}

}  // namespace

AssociationInput normalized_patterns(HopfieldImpl& layer, const AssociationCall& call) {
  const auto& [state, stored, projection] = call.patterns;
  const auto queries = state.is_same(stored) ? without_unusable_padding(state, call.masks) : state;
  const auto keys = without_excluded(stored, call.masks);
  const auto values = projection.is_same(stored) ? keys : without_excluded(projection, call.masks);
  return {normalized_state(layer, queries), apply_norm(layer, layer.norm_stored_pattern, keys, "stored"),
          apply_norm(layer, layer.norm_pattern_projection, values, "projection")};
}

at::Tensor normalized_state(HopfieldImpl& layer, const at::Tensor& state) {
  return apply_norm(layer, layer.norm_state_pattern, state, "state");
}

}  // namespace hopfield::nn
