#pragma once

#include "common/pictures.h"
#include "options.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace hopfield::image_memory {

using examples::Pictures;

/// Reads the images that the options name. @throws UsageError if there are none, or if they are not as expected
Pictures read_pictures(const ImageOptions& options);

/// Takes the first `count` images, or all if it is 0. @throws UsageError if there are fewer
Pictures first_of(Pictures pictures, int64_t count);

/// How images become the patterns of a memory. It is saved with them.
struct ImageFormat {
  int64_t width = 0, height = 0, channels = 0;
  bool is_black_and_white = false;  // pixels are -1 and 1, otherwise from 0 to 1
  std::optional<double> threshold;  // for black and white; not set: the mean of each image

  int64_t pixels() const { return width * height * channels; }
  examples::ImageSize size() const { return {width, height}; }

  /// Images of any channels as this format holds them, [n, height, width, channels] from 0 to 1. Only their size must
  /// be right already.
  at::Tensor prepared(const at::Tensor& images) const;
  /// Prepared images as patterns [n, pixels], and patterns or states as images.
  at::Tensor patterns_of(const at::Tensor& images) const;
  at::Tensor images_of(const at::Tensor& states) const;
};

/// "64x48 grey", "8x8 black and white", "32x32 colour".
std::string text_of(const ImageFormat& format);

}  // namespace hopfield::image_memory
