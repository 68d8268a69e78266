#pragma once

// The forward pass of retrieval for Hopper GPUs (compute capability 9.0), with instructions that only they have:
// products of warpgroups, and copies of tiles by hardware. It serves part of the calls, in bfloat16; the other calls
// are left to retrieve_forward.cu.

#include <kernels/cuda/retrieve.h>

#include <string>

namespace hopfield::kernels::cuda {

/// Whether retrieve_forward() goes by this kernel where the environment does not say. The kernel has never run on a
/// Hopper GPU: this is to become true once scripts/gpu_check.sh has passed on one with HOPFIELD_CUDA_WARPGROUP=1.
constexpr bool kWarpgroupByDefault = false;

/// What the environment variable HOPFIELD_CUDA_WARPGROUP says.
struct WarpgroupSwitch {
  bool on = kWarpgroupByDefault;  ///< retrieve_forward() goes by this kernel where it serves a call
  std::string error;              ///< what is wrong with the variable; empty: nothing
};

/// @param value  of the variable; null: it is not set
WarpgroupSwitch read_warpgroup_switch(const char* value);

/// That of this process, in which the variable is read once.
const WarpgroupSwitch& warpgroup_switch();

/// Why this kernel does not serve the call on the current device; empty if it does. It cannot stop early: a call with a
/// threshold is known by `exact_states`, since eps itself is in the device's memory.
std::string retrieve_warpgroup_reason_against(const RetrieveCall& call, const Outputs& outputs);

/// retrieve_forward() of a call that retrieve_warpgroup_reason_against() has nothing against.
[[nodiscard]] std::string retrieve_warpgroup_forward(const RetrieveCall& call, const Outputs& outputs, void* workspace,
                                                     Stream stream);

}  // namespace hopfield::kernels::cuda
