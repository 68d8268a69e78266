#pragma once

#include "kernels/cpu/retrieve.h"

namespace hopfield::kernels {

/// All gradients of calls whose separation is entmax.
void sparse_backward(const Call& call, const Gradients& gradients, const Parallel& parallel);

}  // namespace hopfield::kernels
