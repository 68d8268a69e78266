#include "digest.h"

#include "errors.h"
#include "text.h"

#include <fmt/format.h>

#include <fstream>
#include <vector>

namespace hopfield::examples {

void Digest::add(const void* bytes, size_t count) {
  const auto* next = static_cast<const unsigned char*>(bytes);
  for (size_t i = 0; i < count; ++i) value_ = (value_ ^ next[i]) * 0x100000001b3u;
}

void Digest::add(const std::string& text) {
  const uint64_t size = text.size();
  add(&size, sizeof(size));
  add(text.data(), text.size());
}

void Digest::add_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> block(1 << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0) {
    add(block.data(), static_cast<size_t>(file.gcount()));
  }
  if (!file.eof()) throw UsageError{"expected a file that can be read, got " + quote(path)};
}

std::string Digest::text() const { return fmt::format("{:016x}", value_); }

}  // namespace hopfield::examples
