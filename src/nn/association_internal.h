#pragma once

#include <hopfield/nn/association.h>

#include <utility>

namespace hopfield::nn {

/// The masks of dense patterns, checked, in the op's shapes, with `appended` columns that nothing excludes. `layer`
/// begins the messages.
void set_masks(RetrieveInput& input, const Masks& masks, int64_t batch, int64_t heads, int64_t appended,
               const std::string& layer);

/// Throws unless ragged patterns come with a key bias alone, one number for each stored pattern.
void check_ragged_masks(const Masks& masks, int64_t total, const std::string& layer);

/// One sequence without a batch, as a batch of one; and its results without that dimension again, of which the output
/// has it at `batch_dimension`.
Masks with_batch(Masks masks);
AssociationResult without_batch(AssociationResult result, int64_t batch_dimension);

/// A projection of normalised patterns, W (gamma * y + delta) + b, as one of y alone: {W gamma, W delta + b}. Undefined
/// tensors stand for what is not there.
std::pair<at::Tensor, at::Tensor> without_norm(at::Tensor weight, at::Tensor bias, const at::Tensor& gamma,
                                               const at::Tensor& delta);

}  // namespace hopfield::nn
