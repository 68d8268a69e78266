#pragma once

// The forward pass of retrieval for Hopper GPUs (compute capability 9.0), with instructions that only they have:
// products of warpgroups, and copies of tiles by hardware. It serves part of the calls, in bfloat16; the other calls
// are left to retrieve_forward.cu.

#include <kernels/cuda/retrieve.h>

namespace hopfield::kernels::cuda {

/// Why this kernel does not serve the call on the current device; empty if it does. It cannot stop early: a call with a
/// threshold is known by `exact_states`, since eps itself is in the device's memory.
std::string retrieve_warpgroup_reason_against(const RetrieveCall& call, const Outputs& outputs);

/// retrieve_forward() of a call that retrieve_warpgroup_reason_against() has nothing against.
[[nodiscard]] std::string retrieve_warpgroup_forward(const RetrieveCall& call, const Outputs& outputs, void* workspace,
                                                     Stream stream);

}  // namespace hopfield::kernels::cuda
