#pragma once

#include <cstdint>
#include <functional>

namespace hopfield::kernels {

/// Calls its argument once for each of `tasks` numbers, on any threads, and returns when all are done.
using Parallel = std::function<void(int64_t tasks, const std::function<void(int64_t task)>& call)>;

}  // namespace hopfield::kernels
