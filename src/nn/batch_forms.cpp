#include "nn/batch_forms.h"

namespace hopfield::nn {
namespace {

/// `change` of each of the three tensors.
template <typename Change>
AssociationInput changed(const AssociationInput& input, const Change& change) {
  const auto stored = change(input.stored);
  const auto of = [&](const at::Tensor& tensor) { return tensor.is_same(input.stored) ? stored : change(tensor); };
  return {of(input.state), stored, of(input.projection)};
}

}  // namespace

AssociationInput with_projection(AssociationInput input) {
  if (!input.projection.defined()) input.projection = input.stored;
  return input;
}

bool is_one_sequence(const AssociationInput& input) {
  return input.state.defined() && input.state.dim() == 2 && input.stored.defined() && input.stored.dim() == 2 &&
         input.projection.dim() == 2;
}

AssociationInput with_batch(const AssociationInput& input, int64_t batch_dimension) {
  return changed(input, [&](const at::Tensor& tensor) { return tensor.unsqueeze(batch_dimension); });
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

AssociationInput as_batch_first(const AssociationInput& input) {
  return changed(input, [](const at::Tensor& tensor) { return tensor.transpose(0, 1); });
}

}  // namespace hopfield::nn
