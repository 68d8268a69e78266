#pragma once

#include <hopfield/nn/options.h>

#include <cstdint>
#include <optional>

namespace hopfield::nn {

/// Throws unless the options fit together.
void check_settings(const AssociationSettings& settings);

/// The widths that follow from options that fit together.
struct AssociationSizes {
  /// Nothing is projected or normalised in association space, and there is no output projection. All else is unset
  /// then.
  bool all_static = false;
  bool fused_weights = false;                                 ///< one in_proj_weight instead of three
  std::optional<int64_t> hidden = {}, pattern = {};           ///< of one head
  int64_t state = 0, stored = 0, projection = 0, output = 0;  ///< of the patterns that users give and get
};
AssociationSizes sizes_of(const AssociationSettings& settings);

}  // namespace hopfield::nn
