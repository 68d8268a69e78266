#pragma once

#include <cstddef>
#include <cstdint>

namespace hopfield::kernels::cuda {

/// Cuts the memory that a call works in into arrays. Without memory it only counts what they need.
class WorkspaceCutter {
 public:
  /// @param memory  aligned to 16 bytes, or null
  explicit WorkspaceCutter(void* memory) : memory_(static_cast<unsigned char*>(memory)) {}

  /// Returns the next array of `count` elements; null where there is no memory.
  template <class T>
  T* take(int64_t count) {
    constexpr size_t kAlignment = 256;  // from the beginning: arrays do not share cache lines
    auto* const array = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + size_);
    size_ += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return array;
  }

  /// Bytes of all arrays so far.
  size_t size() const { return size_; }

 private:
  unsigned char* const memory_;
  size_t size_ = 0;
};

}  // namespace hopfield::kernels::cuda
