#include "pictures.h"

#include "errors.h"
#include "text.h"

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <filesystem>

namespace hopfield::examples {
namespace {

namespace fs = std::filesystem;

/// Appends images, all of which become coloured if any is.
void append(Pictures& pictures, at::Tensor images, const std::vector<std::string>& names) {
  if (pictures.images.defined()) {
    const auto channels = std::max(pictures.channels(), images.size(3));
    images = at::cat({pictures.images.expand({-1, -1, -1, channels}), images.expand({-1, -1, -1, channels})});
  }
  pictures.images = std::move(images);
  for (const auto& name : names) pictures.names.push_back(valid_utf8(name));
}

/// The images of a file or folder [n, height, width, channels], and their names.
ImageFolder read_path(const std::string& option, const std::string& path, const std::optional<ImageSize>& size) {
  std::error_code error;
  try {
    return reading(option, [&]() -> ImageFolder {
      if (fs::is_directory(path, error)) return read_image_folder(path, size);
      auto image = read_image(path).unsqueeze(0);
      if (size) image = resize_images(image, *size);
      return {image, {fs::path(path).filename().string()}, 0};
    });
  } catch (UsageError& refusal) {
    const std::string advice = "choose a size that all are resized to";
    const auto place = refusal.message.find(advice);
    if (place != std::string::npos) refusal.message.replace(place, advice.size(), "choose one for all with --size");
    throw;
  }
}

}  // namespace

Pictures read_pictures(const std::string& option, const std::vector<std::string>& paths,
                       const std::optional<ImageSize>& size) {
  Pictures pictures;
  for (const auto& path : paths) {
    const auto read = read_path(option, path, size);
    if (pictures.images.defined() &&
        (read.images.size(1) != pictures.height() || read.images.size(2) != pictures.width())) {
      throw UsageError{
          fmt::format("{}: expected images of the same size, got {}x{} pixels in {} and {}x{} in {}; choose "
                      "one for all with --size",
                      option, pictures.width(), pictures.height(), quote(paths.front()), read.images.size(2),
                      read.images.size(1), quote(path))};
    }
    append(pictures, read.images, read.names);
  }
  pictures.source = joined(paths);
  return pictures;
}

}  // namespace hopfield::examples
