#pragma once

// The stop rule that looks at whole heads: one launch for each association, so that all queries of a head are compared
// before one of them moves on.

#include <kernels/cuda/retrieve.h>

namespace hopfield::kernels::cuda {

/// Whether associations have to be compared: without an update there is nothing to compare.
inline bool takes_head_steps(const RetrieveCall& call) { return call.compares_heads && call.most_steps > 0; }

/// Shared memory of a block.
size_t retrieve_head_steps_shared_bytes(const RetrieveCall& call);

/// retrieve_forward() of a call that compares heads and makes updates.
[[nodiscard]] std::string retrieve_head_steps(const RetrieveCall& call, const RetrieveOutputs& outputs, Stream stream);

}  // namespace hopfield::kernels::cuda
