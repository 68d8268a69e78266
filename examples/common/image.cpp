#include "image.h"

#include "errors.h"
#include "png.h"
#include "text.h"
#include <hopfield/io/file.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

namespace hopfield::examples {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostFileBytes = int64_t{1} << 29, kMostFolderPixels = int64_t{1} << 27;

/// "28x28" as a size; nothing if the text is not one.
std::optional<ImageSize> parse_size(const std::string& text) {
  ImageSize size;
  const auto* end = text.data() + text.size();
  const auto width = std::from_chars(text.data(), end, size.width);
  if (width.ec != std::errc() || width.ptr == end || *width.ptr != 'x') return std::nullopt;
  const auto height = std::from_chars(width.ptr + 1, end, size.height);
  if (height.ec != std::errc() || height.ptr != end || size.width < 1 || size.height < 1) return std::nullopt;
  return size;
}

bool is_too_large(const ImageSize& size) { return size.width > kMostPixels / size.height; }

std::string read_content(const std::string& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  TORCH_CHECK(fs::exists(status), "hopfield::examples::read_image: expected a PNG file, got ", quote(path),
              ", which does not exist or cannot be reached");
  TORCH_CHECK(fs::is_regular_file(status), "hopfield::examples::read_image: expected a PNG file, got ", quote(path),
              ", which is a folder or a device");
  const auto bytes = fs::file_size(path, error);
  TORCH_CHECK(!error && bytes <= static_cast<uintmax_t>(kMostFileBytes), "hopfield::examples::read_image: expected a ",
              "PNG file of at most ", kMostFileBytes, " bytes, got ", quote(path), "; make the image smaller");
  std::string content(static_cast<size_t>(bytes), '\0');
  std::ifstream file(path, std::ios::binary);
  const bool is_read = file.is_open() && file.read(content.data(), static_cast<std::streamsize>(bytes));
  TORCH_CHECK(is_read, "hopfield::examples::read_image: expected a file that can be read, got ", quote(path),
              "; check its permissions");
  return content;
}

std::string size_text(const at::Tensor& image) {
  return std::to_string(image.size(1)) + "x" + std::to_string(image.size(0));
}

/// The names of the PNG files of a folder, in order, and how many others there are.
ImageFolder list_folder(const std::string& path) {
  ImageFolder folder;
  std::error_code error;
  for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    const auto name = entry->path().filename().string();
    std::error_code unknown;
    if (name[0] == '.') continue;
    if (ending_of(name) == ".png" && !entry->is_directory(unknown)) {
      folder.names.push_back(name);
    } else {
      ++folder.skipped;
    }
  }
  TORCH_CHECK(!error, "hopfield::examples::read_image_folder: expected a folder that can be read, got ", quote(path),
              ": ", error.message());
  std::sort(folder.names.begin(), folder.names.end());
  return folder;
}

/// The means of `to` equal parts of dimension `dim`, whose entries are taken for intervals of length 1. The integral
/// from the beginning, which is linear within each entry, is taken at the parts' edges.
at::Tensor mean_of_parts(const at::Tensor& values, int64_t dim, int64_t to) {
  const auto from = values.size(dim);
  const auto integral = at::constant_pad_nd(values.cumsum(dim).movedim(dim, -1), {1, 0});  // [..., from + 1]
  const auto edges = at::arange(to + 1, at::kLong) * from;                                 // in units of 1 / to
  const auto entry = at::floor_divide(edges, to).clamp_max(from - 1);
  const auto share = (edges - entry * to).to(values.scalar_type()) / to;  // of the entry that lies before the edge
  const auto at_edges = at::lerp(integral.index_select(-1, entry), integral.index_select(-1, entry + 1), share);
  return (at_edges.diff() * (static_cast<double>(to) / static_cast<double>(from))).movedim(-1, dim);
}

void check_images(const char* function, const at::Tensor& images) {
  TORCH_CHECK(images.dim() >= 3 && (images.size(-1) == 1 || images.size(-1) == 3) && images.numel() > 0,
              "hopfield::examples::", function,
              ": expected images [..., height, width, channels] with 1 or 3 channels, ", "got ", images.sizes());
}

}  // namespace

CLI::Option* add_image_size(CLI::App& app, const std::string& name, std::optional<ImageSize>& value,
                            const std::string& description) {
  const auto read = [name, &value](const CLI::results_t& values) {
    value = parse_size(values.back());
    if (!value) throw UsageError{name + ": expected a width and a height like 28x28, got " + quote(values.back())};
    if (is_too_large(*value)) {
      throw UsageError{name + ": expected at most " + std::to_string(kMostPixels) + " pixels, got " +
                       quote(values.back())};
    }
    return true;
  };
  return app.add_option(name, read, description)->type_name("WIDTHxHEIGHT");
}

at::Tensor read_image(const std::string& path) {
  auto pixels = decode_png(read_content(path), path);
  const auto image = at::from_blob(pixels.values.data(), {pixels.height, pixels.width, pixels.channels}, at::kByte)
                         .to(at::kFloat)
                         .div_(255);
  const bool has_alpha = pixels.channels % 2 == 0;
  if (!has_alpha) return image;
  const auto alpha = image.narrow(2, pixels.channels - 1, 1);
  return image.narrow(2, 0, pixels.channels - 1) * alpha + (1 - alpha);
}

ImageFolder read_image_folder(const std::string& path, const std::optional<ImageSize>& size) {
  auto folder = list_folder(path);
  TORCH_CHECK(!folder.names.empty(), "hopfield::examples::read_image_folder: expected a folder with PNG files, got ",
              quote(path), ", which has none");
  std::vector<at::Tensor> images;
  bool has_colour = false;
  for (const auto& name : folder.names) {
    auto image = read_image((fs::path(path) / name).string());
    if (size) image = resize_images(image, *size);
    TORCH_CHECK(images.empty() || image.sizes().slice(0, 2) == images[0].sizes().slice(0, 2),
                "hopfield::examples::read_image_folder: expected images of the same size in ", quote(path), ", got ",
                quote(folder.names[0]), " with ", size_text(images[0]), " and ", quote(name), " with ",
                size_text(image), " pixels; choose a size that all are resized to");
    has_colour |= image.size(2) == 3;
    TORCH_CHECK(static_cast<int64_t>(folder.names.size()) <= kMostFolderPixels / (image.size(0) * image.size(1)),
                "hopfield::examples::read_image_folder: expected images with at most ", kMostFolderPixels,
                " pixels in all, got ", folder.names.size(), " with ", size_text(image), " in ", quote(path),
                "; choose a smaller size that all are resized to");
    images.push_back(std::move(image));
  }
  for (auto& image : images) {
    if (has_colour) image = image.expand({-1, -1, 3});
  }
  folder.images = at::stack(images);
  return folder;
}

at::Tensor resize_images(const at::Tensor& images, const ImageSize& size) {
  check_images("resize_images", images);
  TORCH_CHECK(size.width >= 1 && size.height >= 1 && !is_too_large(size),
              "hopfield::examples::resize_images: expected a size of 1 to ", kMostPixels, " pixels, got ", size.width,
              "x", size.height);
  const auto height = images.size(-3), width = images.size(-2);
  if (height == size.height && width == size.width) return images;
  const auto rows = mean_of_parts(images.to(at::kDouble), -3, size.height);  // [..., size.height, width, channels]
  return mean_of_parts(rows, -2, size.width).to(at::kFloat).contiguous();
}

at::Tensor to_grey(const at::Tensor& images) {
  check_images("to_grey", images);
  if (images.size(-1) == 1) return images;
  const auto channels = images.unbind(-1);
  return (0.299 * channels[0] + 0.587 * channels[1] + 0.114 * channels[2]).unsqueeze(-1);
}

void write_image(const std::string& path, const at::Tensor& image) {
  TORCH_CHECK(ending_of(path) == ".png",
              "hopfield::examples::write_image: expected a file name that ends in .png, got ", quote(path));
  const auto with_channels = image.dim() == 2 ? image.unsqueeze(2) : image;
  TORCH_CHECK(with_channels.dim() == 3 && (with_channels.size(2) == 1 || with_channels.size(2) == 3),
              "hopfield::examples::write_image: expected an image [height, width, channels] with 1 or 3 channels, got ",
              image.sizes());
  const auto values = with_channels.detach().to(at::kCPU, at::kFloat);
  TORCH_CHECK(!values.isnan().any().item<bool>(), "hopfield::examples::write_image: expected numbers, got NaN for ",
              quote(path));
  const auto bytes = values.clamp(0, 1).mul(255).round().to(at::kByte).contiguous();
  const auto* data = bytes.const_data_ptr<uint8_t>();
  const Pixels pixels{bytes.size(1), bytes.size(0), bytes.size(2), {data, data + bytes.numel()}};
  io::write_file(path, encode_png(pixels));
}

}  // namespace hopfield::examples
