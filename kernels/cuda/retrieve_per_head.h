#pragma once

// The forward pass with the stop rule per_head. All queries of a head have to be compared before one of them may move,
// so each association is a launch of its own.

#include <kernels/cuda/retrieve.h>

namespace hopfield::kernels::cuda {

/// Whether the rule has anything to compare. Without updates there is only one association.
inline bool stops_per_head(const RetrieveCall& call) { return call.per_head && call.most_steps > 0; }

/// Shared memory of a block.
size_t retrieve_per_head_shared_bytes(const RetrieveCall& call);

// The functions of retrieve.h for such calls.
size_t retrieve_per_head_workspace_size(const RetrieveCall& call);
[[nodiscard]] std::string retrieve_forward_per_head(const RetrieveCall& call, const Outputs& outputs, void* workspace,
                                                    Stream stream);

}  // namespace hopfield::kernels::cuda
