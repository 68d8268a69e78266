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
  /// Closes it. False if that reported an error, which the destructor would ignore.
  bool close();

 private:
  int value_;
};

/// A regular file that is read from its beginning to its end.
class InputFile {
 public:
  /// @throws c10::Error if the file cannot be opened, or if it is a folder or a device.
  explicit InputFile(const std::string& path);

  uint64_t size() const { return size_; }
  /// Reads the next `bytes` bytes into `target`. @throws c10::Error if the file has fewer.
  void read(void* target, uint64_t bytes);

 private:
  std::string path_;
  Descriptor descriptor_;
  uint64_t size_ = 0;
};

/// A temporary file that will replace the target. The destructor removes it unless replace_target() has succeeded.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path target);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  /// Appends bytes. @throws c10::Error if they cannot be written.
  void write(const void* source, uint64_t bytes);
  /// Syncs the file to the disk and renames it to the target. @throws c10::Error if that fails.
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
/// @throws c10::Error if anything fails. The temporary file is then removed, and the previous file is unchanged.
void write_atomically(const std::string& path, const std::function<void(OutputFile&)>& write_content);

}  // namespace hopfield::io::detail
