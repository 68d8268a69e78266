#pragma once

#include "common/grid.h"
#include "common/output_files.h"

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

/// "hopfield 0.1.0, LibTorch 2.11.0, device cpu"
std::string first_line(const std::string& device);

/// Prints what has been written and what has failed. Returns the exit code.
int report_files(const examples::OutputFiles& files, bool quiet);

}  // namespace hopfield::image_memory
