#include "pictures.h"

#include "common/digits.h"
#include "common/text.h"

#include <ATen/ATen.h>

#include <fmt/format.h>

namespace hopfield::image_memory {
namespace {

Pictures read_digits(const ImageOptions& options) {
  const auto path = examples::digits_path("--images", "digits");
  const auto digits = reading("--images", [&] { return examples::digits(path); });
  const auto chosen = options.digit == kAnyDigit ? at::arange(digits.labels.size(0), at::kLong)
                                                 : (digits.labels == std::stoll(options.digit)).nonzero().squeeze(1);
  if (chosen.numel() == 0) {
    throw UsageError{"--digit: expected one that " + examples::quote(path) + " has, got " + options.digit};
  }
  Pictures pictures{digits.images.index_select(0, chosen).unsqueeze(3), {}, "digits"};
  for (int64_t i = 0; i < chosen.numel(); ++i) {
    const auto row = chosen[i].item<int64_t>();
    pictures.names.push_back(fmt::format("digit {}, row {}", digits.labels[row].item<int64_t>(), row + 1));
  }
  if (options.size) pictures.images = examples::resize_images(pictures.images, *options.size);
  return pictures;
}

}  // namespace

Pictures read_pictures(const ImageOptions& options) {
  if (!options.is_digits() && options.digit != kAnyDigit) {
    throw UsageError{"--digit: expected it with the digits only, got it with --images"};
  }
  auto pictures =
      options.is_digits() ? read_digits(options) : examples::read_pictures("--images", options.paths, options.size);
  return first_of(std::move(pictures), options.count);
}

Pictures first_of(Pictures pictures, int64_t count) {
  if (count == 0) return pictures;
  if (count > pictures.size()) {
    throw UsageError{fmt::format("--count: expected at most {}, the number of images, got {}", pictures.size(), count)};
  }
  pictures.images = pictures.images.narrow(0, 0, count);
  pictures.names.resize(static_cast<size_t>(count));
  return pictures;
}

at::Tensor ImageFormat::prepared(const at::Tensor& images) const {
  auto result = channels == 1 ? examples::to_grey(images) : images.expand({-1, -1, -1, channels});
  if (!is_black_and_white) return result;
  return result.gt(threshold ? at::scalar_tensor(*threshold) : result.mean({1, 2, 3}, /*keepdim=*/true)).to(at::kFloat);
}

at::Tensor ImageFormat::patterns_of(const at::Tensor& images) const {
  const auto rows = images.reshape({images.size(0), pixels()});
  return (is_black_and_white ? rows * 2 - 1 : rows).contiguous();
}

at::Tensor ImageFormat::images_of(const at::Tensor& states) const {
  const auto rows = states.to(at::kCPU, at::kFloat);
  return (is_black_and_white ? rows * 0.5 + 0.5 : rows).reshape({-1, height, width, channels});
}

std::string text_of(const ImageFormat& format) {
  const auto* colours = format.is_black_and_white ? "black and white" : format.channels == 1 ? "grey" : "colour";
  return fmt::format("{}x{} {}", format.width, format.height, colours);
}

}  // namespace hopfield::image_memory
