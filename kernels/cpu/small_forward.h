#pragma once

#include "kernels/cpu/retrieve.h"

namespace hopfield::kernels {

/// Whether small_forward() serves the call: softmax of float32 patterns in sets of few keys, without masks but the
/// causal one, for which there is no backward pass. Sets of that size take longer to be brought into the form of tiles
/// than to be multiplied. (A backward pass finds the association again. It has to sum the scores in the order of the
/// forward pass, since it subtracts nearly equal numbers.)
bool is_small(const Call& call, const Outputs& outputs);

/// The forward pass of such a call.
void small_forward(const Call& call, const Outputs& outputs, const Parallel& parallel);

}  // namespace hopfield::kernels
