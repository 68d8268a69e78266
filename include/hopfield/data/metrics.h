#pragma once

#include <ATen/core/Tensor.h>

namespace hopfield::data {

/// Area under the ROC curve: among all pairs of a positive and a negative example, the share in which the positive one
/// has the higher score. Pairs with equal scores count one half. Only the last division rounds.
///
/// @param scores  [n] of any real dtype; may be infinite
/// @param labels  [n], 0 or 1
/// @throws c10::Error if all labels are equal, if there is a NaN or another label, or if the lengths differ.
double roc_auc(const at::Tensor& scores, const at::Tensor& labels);

/// The share of examples that are classified correctly if an example counts as positive from `threshold` on.
///
/// @param scores     [n] of any real dtype
/// @param labels     [n], 0 or 1
/// @param threshold  in the unit of the scores: 0.5 for probabilities, 0 for logits
/// @throws c10::Error if there is no example, if there is a NaN or another label, or if the lengths differ.
double accuracy(const at::Tensor& scores, const at::Tensor& labels, double threshold = 0.5);

}  // namespace hopfield::data
