#pragma once

#include <hopfield/nn/association.h>

#include <utility>

namespace hopfield::nn {

/// The layer's masks, checked, in the op's shapes, with `appended` columns that nothing excludes.
void set_masks(RetrieveInput& input, const AssociationMasks& masks, int64_t batch, int64_t heads, int64_t appended);

/// A projection of normalised patterns, W (gamma * y + delta) + b, as one of y alone: {W gamma, W delta + b}. Undefined
/// tensors stand for what is not there.
std::pair<at::Tensor, at::Tensor> without_norm(at::Tensor weight, at::Tensor bias, const at::Tensor& gamma,
                                               const at::Tensor& delta);

}  // namespace hopfield::nn
