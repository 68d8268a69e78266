#pragma once

#include "image.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::examples {

/// Images of one size, and what they are called.
struct Pictures {
  at::Tensor images;  ///< [n, height, width, channels] float32 from 0 to 1
  std::vector<std::string> names;
  std::string source;  ///< for messages: "digits", or the paths

  int64_t size() const { return images.size(0); }
  int64_t height() const { return images.size(1); }
  int64_t width() const { return images.size(2); }
  int64_t channels() const { return images.size(3); }
};

/// Reads PNG files and folders of them. If no size is given, all must have the same.
/// @param option  begins error messages
/// @throws UsageError if there are none, or if one of them cannot be read
Pictures read_pictures(const std::string& option, const std::vector<std::string>& paths,
                       const std::optional<ImageSize>& size);

}  // namespace hopfield::examples
