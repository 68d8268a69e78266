#pragma once

#include <kernels/cuda/pool_workspace.h>

#include <string>

namespace hopfield::kernels::cuda {

/// Everything a kernel of the backward pass gets.
struct PoolBackward {
  PoolCall call;
  Gradients g;
  PoolWorkspace work;
  PoolBackwardWorkspace own;
};

/// Enqueues the last pass, which writes the instances' gradient.
[[nodiscard]] std::string pool_backward_instances(const PoolBackward& b, Stream stream);

}  // namespace hopfield::kernels::cuda
