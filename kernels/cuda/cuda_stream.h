#pragma once

namespace hopfield::kernels::cuda {

/// A cudaStream_t; null is the default stream.
using Stream = void*;

}  // namespace hopfield::kernels::cuda
