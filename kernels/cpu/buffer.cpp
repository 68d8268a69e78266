#include "kernels/cpu/buffer.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <new>

namespace hopfield::kernels {

void want_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kPage = 2 << 20;
  if (bytes < 2 * kPage) return;
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const auto first = (begin + kPage - 1) / kPage * kPage, end = (begin + bytes) / kPage * kPage;
  madvise(reinterpret_cast<void*>(first), end - first,
          MADV_HUGEPAGE);  // where it is refused, the program is only slower
#endif
}

void Buffer::Free::operator()(float* memory) const { std::free(memory); }

void Buffer::resize(int64_t floats) {
  if (floats <= size_) return;
  constexpr size_t kLine = 64;
  const auto bytes = (static_cast<size_t>(floats) * sizeof(float) + kLine - 1) / kLine * kLine;
  data_.reset(static_cast<float*>(std::aligned_alloc(kLine, bytes)));
  if (!data_) throw std::bad_alloc();
  size_ = floats;
  want_large_pages(data_.get(), bytes);
}

}  // namespace hopfield::kernels
