#pragma once

#include <kernels/cpu/parallel.h>

namespace hopfield::detail {

/// LibTorch's threads for the kernels. Tasks are handed out one by one, since bags differ in size.
const kernels::Parallel& on_threads();

}  // namespace hopfield::detail
