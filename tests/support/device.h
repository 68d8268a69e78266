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

/// Set by a program in which the ops run the GPU's kernels on CPU tensors, by the runtime of
/// tests/support/cuda_on_host. The host takes long for them, so that tests make fewer calls there.
inline bool kernels_run_on_host = false;

/// Whether the ops run the GPU's kernels: on a GPU, or on the host.
inline bool runs_the_gpus_kernels() { return kernels_run_on_host || test_device().is_cuda(); }

}  // namespace hopfield::testing
