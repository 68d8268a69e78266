#pragma once

#include <hopfield/nn/association.h>

#include <cstdint>
#include <vector>

namespace hopfield::nn {

// The trained bias pattern and the pattern of zeros, which options append to the projected stored patterns and values
// of every batch element or bag. `bag_sizes` are those of ragged patterns before anything is appended.

/// How many patterns are appended.
int64_t appended_rows(const AssociationSettings& settings);

/// Patterns in association space with those that the options append. `bias_row` is the core's bias_k or bias_v.
at::Tensor append_patterns(const AssociationSettings& settings, const at::Tensor& patterns, const at::Tensor& bias_row,
                           const std::vector<int64_t>& bag_sizes);

/// A key bias of ragged patterns [total], or an undefined one, with zeros for the appended patterns.
at::Tensor append_to_bias(const AssociationSettings& settings, const at::Tensor& key_bias,
                          const std::vector<int64_t>& bag_sizes);

/// Ragged rows without those of the appended patterns.
at::Tensor without_appended(const AssociationSettings& settings, const at::Tensor& rows,
                            const std::vector<int64_t>& bag_sizes);

}  // namespace hopfield::nn
