#include "png.h"

#include "palette.h"
#include "text.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <string_view>

// The library stb, which consists of headers. It is compiled here and nowhere else, without its other decoders. What it
// allocates is bounded, so that a small file cannot claim that gigabytes follow.
namespace {

thread_local size_t allocation_limit = 0;

void* bounded_realloc(void* memory, size_t bytes) {
  return bytes <= allocation_limit ? std::realloc(memory, bytes) : nullptr;
}

}  // namespace

#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_MALLOC(bytes) bounded_realloc(nullptr, bytes)
#define STBI_REALLOC(memory, bytes) bounded_realloc(memory, bytes)
#define STBI_FREE(memory) std::free(memory)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image.h>
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace hopfield::examples {
namespace {

using Memory = std::unique_ptr<unsigned char, decltype(&std::free)>;

constexpr std::string_view kSignature("\x89PNG\r\n\x1a\n", 8);

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value % 2 != 0 ? 0xEDB88320u : 0u);
    table[byte] = value;
  }
  return table;
}

/// The checksum that a PNG file has for each of its chunks: the 32-bit cyclic redundancy check of ISO 3309.
uint32_t crc_of(std::string_view bytes) {
  static constexpr auto kTable = make_crc_table();
  uint32_t value = ~0u;
  for (const char byte : bytes) value = kTable[(value ^ static_cast<unsigned char>(byte)) & 0xFF] ^ (value >> 8);
  return ~value;
}

/// The 32-bit number at a position, highest byte first.
uint32_t number_at(std::string_view bytes, size_t position) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[position + i]);
  return value;
}

std::string number_text(uint32_t value) {
  std::string bytes;
  for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(value >> shift);
  return bytes;
}

std::string make_chunk(const std::string& type, const std::string& content) {
  return number_text(static_cast<uint32_t>(content.size())) + type + content + number_text(crc_of(type + content));
}

struct Header {
  int64_t width = 0, height = 0;
  bool is_16_bit = false;
};

/// Walks through the chunks of a file, each of which has a length, a type, content and a checksum, and returns what the
/// first one says about the image.
Header check_chunks(std::string_view content, const std::string& path) {
  constexpr size_t kFrame = 12, kHeaderBytes = 13;
  TORCH_CHECK(content.substr(0, kSignature.size()) == kSignature,
              "hopfield::examples::read_image: expected a PNG file, ", "got ", quote(path),
              ", which does not begin like one; convert it to PNG");
  Header header;
  std::string_view type;
  for (size_t begin = kSignature.size(); type != "IEND";) {
    const bool has_frame = content.size() - begin >= kFrame;
    const size_t length = has_frame ? number_at(content, begin) : 0;
    TORCH_CHECK(has_frame && length <= content.size() - begin - kFrame, "hopfield::examples::read_image: expected a ",
                "complete PNG file, got ", quote(path), ", which is cut off after ", content.size(),
                " bytes; copy it again");
    type = content.substr(begin + 4, 4);
    TORCH_CHECK(crc_of(content.substr(begin + 4, 4 + length)) == number_at(content, begin + 8 + length),
                "hopfield::examples::read_image: expected an undamaged PNG file, got ", quote(path),
                ", where the checksum of the bytes from ", begin, " to ", begin + kFrame + length,
                " is wrong; copy it again");
    if (begin == kSignature.size()) {
      TORCH_CHECK(type == "IHDR" && length == kHeaderBytes, "hopfield::examples::read_image: expected a PNG file to ",
                  "begin with the size of its image, got ", quote(path), "; write it again with another program");
      header = {number_at(content, begin + 8), number_at(content, begin + 12), content[begin + 16] == 16};
    }
    begin += kFrame + length;
  }
  return header;
}

void check_size(int64_t width, int64_t height, const std::string& path) {
  // Neither side may exceed the number of pixels, so their product fits into 64 bits.
  const bool fits = width <= kMostPixels && height <= kMostPixels && width * height <= kMostPixels;
  TORCH_CHECK(fits, "hopfield::examples::read_image: expected an image of at most ", kMostPixels, " pixels, got ",
              quote(path), " with ", width, "x", height, "; make it smaller");
}

}  // namespace

Pixels decode_png(const std::string& content, const std::string& path) {
  const auto header = check_chunks(content, path);
  check_size(header.width, header.height, path);
  // The decoder first joins the compressed chunks in a buffer that doubles; then it unpacks them. A row of each of the
  // seven passes of an interlaced image begins with a byte of its own.
  const auto pixels = static_cast<size_t>(header.width * header.height);
  const auto row_marks = 2 * static_cast<size_t>(header.width + header.height);
  const size_t unpacked = pixels * 4 * (header.is_16_bit ? 2 : 1) + row_marks;
  allocation_limit = std::max(2 * content.size(), 2 * unpacked) + 65536;
  int width = 0, height = 0, channels = 0;
  const Memory memory(stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(content.data()),
                                            static_cast<int>(content.size()), &width, &height, &channels, 0),
                      &std::free);
  TORCH_CHECK(memory != nullptr, "hopfield::examples::read_image: expected a PNG file that can be decoded, got ",
              quote(path), ": ", stbi_failure_reason(), "; write it again with another program");
  Pixels result{width, height, channels, {}};
  result.values.assign(memory.get(), memory.get() + result.width * result.height * result.channels);
  return result;
}

std::string encode_png(const Pixels& pixels) {
  const auto& [width, height, channels, values] = pixels;
  TORCH_CHECK(
      width >= 1 && height >= 1 && width <= kMostPixels && height <= kMostPixels && width * height <= kMostPixels,
      "hopfield::examples::write_image: expected an image of 1 to ", kMostPixels, " pixels, got ", width, "x", height);
  const auto expected = static_cast<size_t>(width * height * channels);
  TORCH_CHECK(channels >= 1 && channels <= 4 && values.size() == expected,
              "hopfield::examples::write_image: expected 1 to 4 channels with ", expected, " values in all, got ",
              channels, " channels with ", values.size(), " values");
  int bytes = 0;
  const Memory memory(stbi_write_png_to_mem(values.data(), 0, static_cast<int>(width), static_cast<int>(height),
                                            static_cast<int>(channels), &bytes),
                      &std::free);
  TORCH_CHECK(memory != nullptr, "hopfield::examples::write_image: there is not enough memory to compress an image of ",
              width, "x", height, " pixels");
  return {reinterpret_cast<const char*>(memory.get()), static_cast<size_t>(bytes)};
}

std::string encode_png(const PaletteImage& image) {
  const auto width = static_cast<size_t>(image.width), height = static_cast<size_t>(image.height);
  TORCH_CHECK(width * height == image.numbers.size() && width * height > 0 && !image.colors.empty(),
              "hopfield::examples::encode_png: expected ", width, "x", height, " pixels, got ", image.numbers.size());
  std::vector<unsigned char> rows;
  for (size_t row = 0; row < height; ++row) {
    rows.push_back(0);  // the number of the filter that leaves a row as it is
    const auto begin = image.numbers.begin() + static_cast<std::ptrdiff_t>(row * width);
    rows.insert(rows.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
  }
  int bytes = 0;
  constexpr int kQuality = 16;
  const Memory memory(stbi_zlib_compress(rows.data(), static_cast<int>(rows.size()), &bytes, kQuality), &std::free);
  TORCH_CHECK(memory != nullptr, "hopfield::examples::encode_png: there is not enough memory to compress an image");
  std::string palette;
  for (const auto& color : image.colors) palette.append(color.begin(), color.end());
  const std::string kind{8, 3, 0, 0, 0};  // 8 bits, by palette; the compression, the filters and the order of rows
  return std::string(kSignature) +
         make_chunk("IHDR",
                    number_text(static_cast<uint32_t>(width)) + number_text(static_cast<uint32_t>(height)) + kind) +
         make_chunk("PLTE", palette) +
         make_chunk("IDAT", {reinterpret_cast<const char*>(memory.get()), static_cast<size_t>(bytes)}) +
         make_chunk("IEND", "");
}

}  // namespace hopfield::examples
