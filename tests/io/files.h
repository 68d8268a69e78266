#pragma once

#include <hopfield/io/safetensors.h>

#include <ATen/ATen.h>

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

/// What the tests of io share: a folder that vanishes, whole files as strings, and files made by hand.
namespace io_test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    // A folder in memory is used where there is one, as syncing costs nothing there.
    const std::filesystem::path memory = "/dev/shm";
    const auto parent = std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path();
    auto pattern = (parent / "hopfield-io-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder: " + pattern);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }
  size_t size() const {
    return static_cast<size_t>(
        std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_bytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string length_bytes(uint64_t length) {
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length));
}

/// A file with this header and this many bytes of data.
inline std::string safetensors_bytes(const std::string& header, size_t data_bytes) {
  return length_bytes(header.size()) + header + std::string(data_bytes, '\1');
}

/// Whether type, shape and bytes are the same. NaN equals itself, and every type can be compared.
inline bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  const auto left = a.contiguous(), right = b.contiguous();
  return std::string(static_cast<const char*>(left.const_data_ptr()), left.nbytes()) ==
         std::string(static_cast<const char*>(right.const_data_ptr()), right.nbytes());
}

}  // namespace io_test
