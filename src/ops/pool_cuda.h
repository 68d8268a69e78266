#pragma once

#include "ops/pool_passes.h"

namespace hopfield::detail {

/// The kernels of kernels/cuda. The tests run them on CPU tensors, by the host runtime of tests/support/cuda_on_host.
extern const PoolPasses kPoolCudaPasses;

}  // namespace hopfield::detail
