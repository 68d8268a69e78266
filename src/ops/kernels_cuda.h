#pragma once

#include "ops/device_kernels.h"

namespace hopfield::detail {

/// The kernels of kernels/cuda. The tests run them on CPU tensors, by the host runtime of tests/support/cuda_on_host.
extern const DeviceKernels kCudaKernels;

}  // namespace hopfield::detail
