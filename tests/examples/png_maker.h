#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace hopfield::examples {

// Writes PNG files as the specification (ISO/IEC 15948) has them, without compression, so that tests can have any kind
// of file, and wrong ones.

/// A number of 32 bits, highest byte first.
inline std::string big_endian(uint32_t value) {
  std::string bytes;
  for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(value >> shift);
  return bytes;
}

inline uint32_t crc32_of(const std::string& bytes) {
  uint32_t value = 0xFFFFFFFFu;
  for (const char byte : bytes) {
    value ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) value = value & 1u ? value >> 1 ^ 0xEDB88320u : value >> 1;
  }
  return value ^ 0xFFFFFFFFu;
}

inline std::string chunk(const std::string& type, const std::string& content) {
  return big_endian(static_cast<uint32_t>(content.size())) + type + content + big_endian(crc32_of(type + content));
}

/// Bytes in the form of a zlib stream that holds them as they are. At most 65535 bytes.
inline std::string stored(const std::string& bytes) {
  uint32_t low = 1, high = 0;  // the checksum Adler-32
  for (const char byte : bytes) {
    low = (low + static_cast<unsigned char>(byte)) % 65521;
    high = (high + low) % 65521;
  }
  const auto size = static_cast<uint16_t>(bytes.size()), inverse = static_cast<uint16_t>(~size);
  std::string stream("\x78\x01\x01", 3);
  for (const auto part : {size, inverse}) {
    stream += static_cast<char>(part & 0xFF);
    stream += static_cast<char>(part >> 8);
  }
  return stream + bytes + big_endian(high << 16 | low);
}

const std::string kPngSignature("\x89PNG\r\n\x1a\n", 8);

/// What the first chunk says.
struct PngKind {
  uint32_t width, height;
  char depth, color;  ///< color: 0 grey, 2 red-green-blue, 3 palette, 4 grey and alpha, 6 red-green-blue and alpha
  char interlaced = 0;

  std::string chunk() const {
    const std::string rest{depth, color, 0, 0, interlaced};
    return examples::chunk("IHDR", big_endian(width) + big_endian(height) + rest);
  }
};

/// @param rows  each begins with a zero byte, the number of the filter that leaves it as it is
/// @param before  further chunks, such as a palette
inline std::string png_file(const PngKind& kind, const std::string& rows, const std::string& before = "") {
  return kPngSignature + kind.chunk() + before + chunk("IDAT", stored(rows)) + chunk("IEND", "");
}

}  // namespace hopfield::examples
