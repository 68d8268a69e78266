#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace hopfield::kernels {

/// Asks the system for large pages for a large block of memory that has not been touched yet. Touching 100 MB for the
/// first time otherwise takes 25,000 page faults, which are a good part of the time of a training step.
void want_large_pages(void* memory, size_t bytes);

/// Memory aligned to cache lines, not initialised.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t floats) { resize(floats); }
  /// Makes room for that many numbers. If the buffer has to grow, its contents are lost.
  void resize(int64_t floats);
  float* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* memory) const;
  };
  std::unique_ptr<float, Free> data_;
  int64_t size_ = 0;
};

}  // namespace hopfield::kernels
