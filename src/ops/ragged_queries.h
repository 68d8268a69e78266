#pragma once

#include "ops/retrieve_internal.h"

namespace hopfield::detail {

/// Ragged queries of a checked call, padded to the longest sequence: state [N, H, L, d] (or [N, L, d]) with zeros
/// behind each. The offsets stay, and say which rows are padding. Other calls come back as they are.
RetrieveInput with_padded_queries(RetrieveInput input);

/// The results of padded queries, ragged again: [total_L, H, ..] (or [total_L, ..]) in place of [N, H, L, ..].
/// @param state_offsets  of the call; undefined: the result comes back as it is
RetrieveResult with_ragged_queries(RetrieveResult result, const at::Tensor& state_offsets);

/// [N, L], true where a state that was padded by these offsets is padding.
at::Tensor padding_of_queries(const at::Tensor& state_offsets, at::Device device);

}  // namespace hopfield::detail
