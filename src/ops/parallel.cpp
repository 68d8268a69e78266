#include "ops/parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

namespace hopfield::detail {

const kernels::Parallel& on_threads() {
  static const kernels::Parallel parallel = [](int64_t tasks, const std::function<void(int64_t)>& call) {
    const auto threads = at::in_parallel_region() ? 1 : std::min<int64_t>(tasks, at::get_num_threads());
    if (threads <= 1) {
      for (int64_t task = 0; task < tasks; ++task) call(task);
      return;
    }
    std::atomic<int64_t> next{0};
    at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
      for (auto task = next++; task < tasks; task = next++) call(task);
    });
  };
  return parallel;
}

}  // namespace hopfield::detail
