#include "allocator.h"

#include <malloc.h>

namespace hopfield::examples {

void keep_freed_memory() {
  constexpr int kLarge = 1 << 30;
  ::mallopt(M_MMAP_THRESHOLD, kLarge);
  ::mallopt(M_TRIM_THRESHOLD, kLarge);
}

}  // namespace hopfield::examples
