#include "nn/appended_patterns.h"

#include "nn/association_projections.h"

#include <ATen/ATen.h>

namespace hopfield::nn {
namespace {

/// Rows [1, heads or 1, k, d] behind the patterns of every batch element or bag.
at::Tensor append_rows(const at::Tensor& patterns, const at::Tensor& rows, const std::vector<int64_t>& bag_sizes) {
  if (patterns.dim() == 4) {
    return at::cat({patterns, rows.expand({patterns.size(0), patterns.size(1), -1, -1})}, 2);
  }
  const auto ragged_rows = rows.squeeze(0).transpose(0, 1).expand({-1, patterns.size(1), -1});  // [k, heads or 1, d]
  std::vector<at::Tensor> pieces;
  for (const auto& bag : patterns.split_with_sizes(bag_sizes)) {
    pieces.push_back(bag);
    pieces.push_back(ragged_rows);
  }
  return pieces.empty() ? patterns : at::cat(pieces);
}

}  // namespace

int64_t appended_rows(const AssociationSettings& settings) {
  return (settings.concat_bias_pattern ? 1 : 0) + (settings.add_zero_association ? 1 : 0);
}

at::Tensor append_patterns(const AssociationSettings& settings, const at::Tensor& patterns, const at::Tensor& bias_row,
                           const std::vector<int64_t>& bag_sizes) {
  std::vector<at::Tensor> rows;
  if (bias_row.defined()) rows.push_back(split_heads(bias_row, settings.num_heads));
  if (settings.add_zero_association) {
    rows.push_back(at::zeros({1, 1, 1, patterns.size(-1)}, patterns.options()).expand({-1, patterns.size(1), -1, -1}));
  }
  return rows.empty() ? patterns : append_rows(patterns, at::cat(rows, 2), bag_sizes);
}

at::Tensor append_to_bias(const AssociationSettings& settings, const at::Tensor& key_bias,
                          const std::vector<int64_t>& bag_sizes) {
  const auto appended = appended_rows(settings);
  if (!key_bias.defined() || appended == 0) return key_bias;
  return append_rows(key_bias.view({-1, 1, 1}), key_bias.new_zeros({1, 1, appended, 1}), bag_sizes).flatten();
}

at::Tensor without_appended(const AssociationSettings& settings, const at::Tensor& rows,
                            const std::vector<int64_t>& bag_sizes) {
  const auto appended = appended_rows(settings);
  if (appended == 0 || bag_sizes.empty()) return rows;
  auto sizes = bag_sizes;
  for (auto& size : sizes) size += appended;
  auto bags = rows.split_with_sizes(sizes);
  for (size_t i = 0; i < bags.size(); ++i) bags[i] = bags[i].narrow(0, 0, bag_sizes[i]);
  return at::cat(bags);
}

}  // namespace hopfield::nn
