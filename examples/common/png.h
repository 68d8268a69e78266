#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hopfield::examples {

/// The pixels of an image, [height, width, channels], row by row. 1 to 4 channels: grey, grey and alpha,
/// red-green-blue, red-green-blue and alpha.
struct Pixels {
  int64_t width = 0, height = 0, channels = 0;
  std::vector<uint8_t> values;
};

/// Images with more pixels than this are neither read nor written.
constexpr int64_t kMostPixels = int64_t{1} << 25;

/// Decodes the content of a PNG file of any kind; 16 bits a channel become 8, and a palette is looked up. All checksums
/// are verified and the sizes are bounded before memory for the pixels is allocated.
/// @param path  for error messages
/// @throws c10::Error if the content is not a complete, undamaged PNG file, or if the image is too large
Pixels decode_png(const std::string& content, const std::string& path);

/// The content of a PNG file with these pixels; the same bytes for the same pixels.
/// @throws c10::Error if there are no pixels, or more than kMostPixels
std::string encode_png(const Pixels& pixels);

}  // namespace hopfield::examples
