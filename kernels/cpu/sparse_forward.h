#pragma once

#include "kernels/cpu/retrieve.h"

namespace hopfield::kernels {

/// The forward pass of calls whose separation is entmax. Of each association it keeps the largest score and c of
/// sparse_association.h for the backward pass, and no output.
void sparse_forward(const Call& call, const Outputs& outputs, const Parallel& parallel);

}  // namespace hopfield::kernels
