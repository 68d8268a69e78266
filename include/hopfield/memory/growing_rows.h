#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace hopfield::memory {

/// Rows of a tensor to which others are appended: appending n rows costs what n rows cost, on average, however many are
/// there already. A copy shares the rows of the original, and either may be appended to without changing the other.
class GrowingRows {
 public:
  GrowingRows() = default;
  /// Takes `rows` [n, ..] without copying them.
  explicit GrowingRows(at::Tensor rows) : buffer_(std::move(rows)), size_(buffer_.size(0)), owns_spare_(true) {}
  GrowingRows(const GrowingRows& other) : buffer_(other.buffer_), size_(other.size_) {}
  GrowingRows(GrowingRows&&) = default;
  GrowingRows& operator=(const GrowingRows& other) { return *this = GrowingRows(other); }
  GrowingRows& operator=(GrowingRows&&) = default;
  ~GrowingRows() = default;

  int64_t size() const { return size_; }
  /// The rows [size, ..], as a view; undefined before the first ones.
  at::Tensor rows() const { return buffer_.defined() ? buffer_.narrow(0, 0, size_) : buffer_; }

  /// Appends rows [n, ..] of the same width, type and device. Where there are no rows, any will do.
  void append(const at::Tensor& rows);
  /// Drops all rows from row `size` on.
  void truncate(int64_t size);

 private:
  at::Tensor buffer_;
  int64_t size_ = 0;
  bool owns_spare_ = false;  // the rows of the buffer behind `size_` belong to this object
};

}  // namespace hopfield::memory
