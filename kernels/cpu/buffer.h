#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace hopfield::kernels {

/// Asks the system for large pages behind memory that nobody has touched yet, where there is much of it: touching 100
/// MB for the first time costs 25,000 small pages, and these a good part of a training step.
void want_large_pages(void* memory, size_t bytes);

/// Memory aligned to cache lines, not initialised.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t floats) { resize(floats); }
  /// Grows to hold so many; what it held is lost then.
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
