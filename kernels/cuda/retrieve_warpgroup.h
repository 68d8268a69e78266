#pragma once

// retrieve_forward() of bfloat16 by the warpgroup products and tile copies of Hopper GPUs. What it does not serve,
// retrieve_forward.cu does.

#include <kernels/cuda/retrieve.h>

namespace hopfield::kernels::cuda {

/// Why this kernel does not serve the call on the current device; empty if it does. That no head stops early is read
/// from `exact_states`, which a threshold needs in 16 bits.
std::string retrieve_warpgroup_reason_against(const RetrieveCall& call, const Outputs& outputs);

/// Enqueues all steps in one launch, of a call that retrieve_warpgroup_reason_against() has nothing against. Returns an
/// empty string, or why it could not be started.
[[nodiscard]] std::string retrieve_warpgroup_forward(const RetrieveCall& call, const Outputs& outputs, void* workspace,
                                                     Stream stream);

}  // namespace hopfield::kernels::cuda
