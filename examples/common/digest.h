#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace hopfield::examples {

/// A hash that shows whether contents have changed: 64-bit FNV-1a. Changing a single byte always changes it. It does
/// not protect against deliberate forgery.
class Digest {
 public:
  void add(const void* bytes, size_t count);
  /// Adds the length of the text, too, so that "ab", "c" and "a", "bc" give different digests.
  void add(const std::string& text);
  /// @throws UsageError if the file cannot be read
  void add_file(const std::string& path);

  /// 16 hexadecimal digits
  std::string text() const;

 private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace hopfield::examples
