#pragma once

#include "kernels/cpu/parallel.h"
#include "kernels/params.h"

namespace hopfield::kernels {

/// T updates and the read-out on the CPU. What is kept for the backward pass is in float32 without padding.
void retrieve_forward(const Call& call, const Outputs& outputs, const Parallel& parallel);

/// All gradients of a call. Those that come in for output and state are float32.
void retrieve_backward(const Call& call, const Gradients& gradients, const Parallel& parallel);

}  // namespace hopfield::kernels
