#pragma once

#include <ATen/core/Tensor.h>

namespace hopfield::data {

/// Area under the ROC curve: the share of pairs of a positive and a negative example in which the positive one has the
/// higher score, equal scores counting one half. Exact but for the last division.
///
/// @param scores  [n] of any real type, infinities allowed
/// @param labels  [n], 0 or 1
/// @throws c10::Error if only one class is there, or for a NaN, another label or unequal lengths.
double roc_auc(const at::Tensor& scores, const at::Tensor& labels);

/// Share of examples whose label is 1 where the score reaches `threshold`, and 0 where it does not.
/// @param scores  [n]; the threshold belongs to them: 0.5 for probabilities, 0 for logits
/// @param labels  [n], 0 or 1
/// @throws c10::Error as above (one class is enough), or if there is no example.
double accuracy(const at::Tensor& scores, const at::Tensor& labels, double threshold = 0.5);

}  // namespace hopfield::data
