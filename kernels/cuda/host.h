#pragma once

// The seam by which tests run the kernels without a GPU. nvcc compiles each wrapper of this folder to the instruction
// that it stands for. Any other compiler makes it a call of functions in the namespace hopfield::cuda_on_host. They are
// no part of the kernels: whoever compiles them for the host defines HOPFIELD_CUDA_HOST_RUNTIME as the header that
// declares them.
//
// launch.cu calls CUDA's runtime alone. It is tested without nvcc, too, against a <cuda_runtime.h> that stands in for
// CUDA's: whoever compiles it so defines HOPFIELD_CUDA_RUNTIME, and can start kernels, but has none of the wrappers.

#if defined(__CUDACC__)
#define HOPFIELD_CUDA_RUNTIME
#elif !defined(HOPFIELD_CUDA_RUNTIME)
#if !defined(HOPFIELD_CUDA_HOST_RUNTIME)
#error "kernels/cuda is compiled by nvcc, or for tests against the CMake target cuda_on_host"
#endif
#include HOPFIELD_CUDA_HOST_RUNTIME
#endif
