#pragma once

#include <kernels/cuda/pool_workspace.h>

#include <string>

namespace hopfield::kernels::cuda {

/// What a kernel of the backward pass is given.
struct PoolBackward {
  PoolCall call;
  Gradients g;
  PoolWorkspace work;
  PoolBackwardWorkspace own;
};

/// Enqueues the last pass, which writes the gradient of the instances.
[[nodiscard]] std::string pool_backward_instances(const PoolBackward& b, Stream stream);

}  // namespace hopfield::kernels::cuda
