#pragma once

#include <ATen/core/Tensor.h>

#include <CLI/CLI.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::examples {

/// Images are tensors [height, width, channels] of float32 on the CPU, from 0 (black) to 1 (white); 1 channel is grey,
/// 3 are red, green and blue. Functions that say [..., height, width, channels] take any number of images at once.

/// Width and height in pixels.
struct ImageSize {
  int64_t width = 0, height = 0;
};

/// Adds an option for the size of an image, written as WIDTHxHEIGHT: "28x28". Parsing throws UsageError for other texts
/// and for sizes that are too large.
CLI::Option* add_image_size(CLI::App& app, const std::string& name, std::optional<ImageSize>& value,
                            const std::string& description);

/// Reads a PNG file: [height, width, 1] if the file is grey, otherwise [height, width, 3]. Colours of 16 bits are
/// rounded down to 8, and transparent pixels are laid over white.
/// @throws c10::Error if the file cannot be read, is not a complete and undamaged PNG file, or has more than 2^25
/// pixels
at::Tensor read_image(const std::string& path);

/// The PNG files of a folder.
struct ImageFolder {
  at::Tensor images;               ///< [images, height, width, channels]; grey ones become coloured if any is coloured
  std::vector<std::string> names;  ///< of the files, without the folder
  int64_t skipped = 0;             ///< how many other files and folders the folder has, apart from hidden ones
};

/// Reads the files of a folder whose names end in .png, in the order of their names (by bytes). Folders within it and
/// files whose names begin with a dot are left out.
/// @param size  what all images are resized to; if not set, all of them must be of the same size
/// @throws c10::Error for the reasons of read_image(); if there are no such files; if they differ in size and no size
/// is
///         wanted; or if all images together have more than 2^27 pixels
ImageFolder read_image_folder(const std::string& path, const std::optional<ImageSize>& size = std::nullopt);

/// Resizes images [..., height, width, channels]. Each pixel of the result is the mean of the area that it covers in
/// the original; proportions are not kept.
at::Tensor resize_images(const at::Tensor& images, const ImageSize& size);

/// Makes images [..., height, width, channels] grey: [..., height, width, 1], as 0.299 red + 0.587 green + 0.114 blue
/// (ITU-R BT.601).
at::Tensor to_grey(const at::Tensor& images);

/// Writes an image [height, width], [height, width, 1] or [height, width, 3] of any real dtype as a PNG file, which is
/// replaced as a whole or not at all. Values below 0 are written as 0, those above 1 as 1.
/// @throws c10::Error if the path does not end in .png, if the image is not of such a shape, has NaN or has more than
///         2^25 pixels, or if the file cannot be written
void write_image(const std::string& path, const at::Tensor& image);

}  // namespace hopfield::examples
