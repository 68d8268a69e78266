#pragma once

#include "ops/retrieve_internal.h"

namespace hopfield::detail {

/// A call with all dimensions, and its ragged queries padded to the longest sequence: the state is [N, H, L, d], with
/// zeros behind each sequence. The offsets are kept and say which rows are padding. Other calls are returned as
/// they are.
RetrieveInput with_padded_queries(RetrieveInput input);

/// The results of padded queries in the ragged form [total_L, H, ..] instead of [N, H, L, ..].
/// @param state_offsets  of the call; undefined: the result is returned as it is
RetrieveResult with_ragged_queries(RetrieveResult result, const at::Tensor& state_offsets);

/// [N, L], true at the padding of a state that was padded by these offsets.
at::Tensor padding_of_queries(const at::Tensor& state_offsets, at::Device device);

}  // namespace hopfield::detail
