#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace hopfield::examples {

/// Tells contents apart: FNV-1a of 64 bits. A single changed byte always changes it; it is no defence against forgery.
class Digest {
 public:
  void add(const void* bytes, size_t count);
  /// The length goes in as well, so that texts in a row keep their borders.
  void add(const std::string& text);
  /// @throws UsageError if the file cannot be read
  void add_file(const std::string& path);

  /// 16 hexadecimal digits
  std::string text() const;

 private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace hopfield::examples
