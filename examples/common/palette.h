#pragma once

#include "png.h"

#include <array>
#include <cstdint>
#include <vector>

namespace hopfield::examples {

/// An image that names its colours by their number in a list of at most 256.
struct PaletteImage {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> numbers;                ///< [height, width]
  std::vector<std::array<uint8_t, 3>> colors;  ///< red, green, blue
};

/// Reduces an image of three channels to 256 colours, or to all it has if these are fewer. Similar colours become the
/// one among them that is most frequent, so that large areas keep their exact colour.
///
/// As long as there are fewer than 256 groups, the group with the largest sum of squared deviations from its mean is
/// split at the mean of the channel that deviates most (after X. Wu, Color quantization by dynamic programming and
/// principal analysis, 1992, without the dynamic programming).
PaletteImage reduce_colors(const Pixels& pixels);

/// The content of a PNG file with this image, which is about a third as large as with three channels.
std::string encode_png(const PaletteImage& image);

}  // namespace hopfield::examples
