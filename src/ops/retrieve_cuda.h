#pragma once

#include "ops/retrieve_passes.h"

namespace hopfield::detail {

/// The kernels of kernels/cuda. The tests run them on CPU tensors, by the host runtime of tests/support/cuda_on_host.
extern const RetrievePasses kRetrieveCudaPasses;

}  // namespace hopfield::detail
