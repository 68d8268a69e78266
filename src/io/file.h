#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace hopfield::io::detail {

/// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor();

  int value() const { return value_; }
  /// Whether closing reported no error; the destructor cannot tell.
  bool close();

 private:
  int value_;
};

/// A regular file, read from its beginning to its end.
class InputFile {
 public:
  /// @throws c10::Error if it cannot be opened, or is a folder or a device.
  explicit InputFile(const std::string& path);

  uint64_t size() const { return size_; }
  /// The next bytes. @throws c10::Error if the file has fewer.
  void read(void* target, uint64_t bytes);

 private:
  std::string path_;
  Descriptor descriptor_;
  uint64_t size_ = 0;
};

/// The file that will replace another one; removed unless it did.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path target);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  /// Appends. @throws c10::Error if the bytes cannot be written.
  void write(const void* source, uint64_t bytes);
  /// Makes the bytes durable and moves the file to its place.
  void replace_target();

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  Descriptor folder_;
  Descriptor descriptor_;
  bool in_place_ = false;
};

/// Replaces a file by what `write_content` writes, as a whole or not at all: a temporary file in the same folder is
/// written, synced and renamed, then the folder is synced. A symbolic link is followed.
/// @throws c10::Error if anything fails; the temporary file is gone then and the previous file as it was.
void write_atomically(const std::string& path, const std::function<void(OutputFile&)>& write_content);

}  // namespace hopfield::io::detail
