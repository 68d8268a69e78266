#pragma once

#include "common/grid.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace hopfield::image_memory {

/// Makes images [n, height, width, channels] small enough to stand beside others.
at::Tensor for_display(const at::Tensor& images);
/// The scale at which such an image is drawn.
int64_t scale_for(const at::Tensor& image);

/// A name that is short enough for a caption, without the ending of PNG files.
std::string short_name(const std::string& name);

/// At most `most` of the numbers 0 .. count - 1, at equal steps.
std::vector<int64_t> evenly(int64_t count, int64_t most);

}  // namespace hopfield::image_memory
