#include "display.h"

#include "common/image.h"
#include "common/text.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace hopfield::image_memory {

at::Tensor for_display(const at::Tensor& images) {
  constexpr int64_t kMostSide = 160;
  const auto height = images.size(-3), width = images.size(-2), longest = std::max(height, width);
  if (longest <= kMostSide) return images;
  return examples::resize_images(
      images, {std::max<int64_t>(1, width * kMostSide / longest), std::max<int64_t>(1, height * kMostSide / longest)});
}

int64_t scale_for(const at::Tensor& image) {
  constexpr int64_t kSide = 112;  // nine letters
  const auto longest = std::max(image.size(-3), image.size(-2));
  return std::max<int64_t>(1, (kSide + longest / 2) / longest);
}

std::string short_name(const std::string& name) {
  constexpr size_t kMost = 24, kBegin = 12, kEnd = 9;
  const auto bare = examples::ending_of(name) == ".png" ? name.substr(0, name.size() - 4) : name;
  return bare.size() <= kMost ? bare : bare.substr(0, kBegin) + "..." + bare.substr(bare.size() - kEnd);
}

std::vector<int64_t> evenly(int64_t count, int64_t most) {
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < std::min(count, most); ++i) numbers.push_back(i * count / std::min(count, most));
  return numbers;
}

}  // namespace hopfield::image_memory
