#pragma once

#include <cstdint>
#include <functional>

namespace hopfield::kernels {

/// A function that calls `call(task)` once for each task from 0 to `tasks` - 1, on any threads, and returns when all
/// calls have returned.
using Parallel = std::function<void(int64_t tasks, const std::function<void(int64_t task)>& call)>;

}  // namespace hopfield::kernels
