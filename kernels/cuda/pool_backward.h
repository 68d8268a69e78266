#pragma once

#include <kernels/cuda/pool_workspace.h>

#include <string>

namespace hopfield::kernels::cuda {

/// Everything a kernel of the backward pass gets.
struct Backward {
  PoolCall call;
  PoolGradients g;
  PoolWorkspace work;
  PoolBackwardWorkspace own;
};

/// Enqueues the last pass, which writes the instances' gradient.
[[nodiscard]] std::string pool_gradient(const Backward& b, Stream stream);

}  // namespace hopfield::kernels::cuda
