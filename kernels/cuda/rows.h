#pragma once

#include <kernels/cuda/device.h>
#include <kernels/params.h>

namespace hopfield::kernels::cuda {

/// Call::rows() for kernels.
HOPFIELD_DEVICE int64_t row_count(const Call& call) { return call.batch * call.heads * call.queries; }

}  // namespace hopfield::kernels::cuda
