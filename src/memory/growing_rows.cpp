#include <hopfield/memory/growing_rows.h>

#include <ATen/ATen.h>

#include <algorithm>

namespace hopfield::memory {

void GrowingRows::append(const at::Tensor& rows) {
  if (size_ == 0) {
    *this = GrowingRows(rows.clone(at::MemoryFormat::Contiguous));
    return;
  }
  const auto needed = size_ + rows.size(0);
  if (!owns_spare_ || needed > buffer_.size(0)) {
    auto sizes = buffer_.sizes().vec();
    sizes[0] = std::max(needed, 2 * size_);
    auto larger = at::empty(sizes, buffer_.options());
    larger.narrow(0, 0, size_).copy_(this->rows());
    buffer_ = std::move(larger);
    owns_spare_ = true;
  }
  buffer_.narrow(0, size_, rows.size(0)).copy_(rows);
  size_ = needed;
}

void GrowingRows::truncate(int64_t size) {
  size_ = std::min(size, size_);
  // Views that rows() has returned may still show what is behind, so it must not be overwritten.
  owns_spare_ = false;
}

}  // namespace hopfield::memory
