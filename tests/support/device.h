#pragma once

#include <ATen/Context.h>
#include <c10/core/Device.h>

namespace hopfield::testing {

/// Where tests of what devices have in common run: on the GPU, if there is one and the library has kernels for it.
inline at::Device test_device() {
#ifdef HOPFIELD_WITH_CUDA
  if (at::hasCUDA()) return at::kCUDA;
#endif
  return at::kCPU;
}

/// Whether the ops run the GPU's kernels: on a GPU, or in a program that has them on CPU tensors.
inline bool runs_the_gpus_kernels() {
#ifdef HOPFIELD_KERNELS_OF_THE_GPU
  return true;
#else
  return test_device().is_cuda();
#endif
}

}  // namespace hopfield::testing
