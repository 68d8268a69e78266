#pragma once

#include "ops/retrieve_internal.h"

#include <optional>
#include <string>

namespace hopfield::detail {

// Without updates, retrieval is attention, for which LibTorch has kernels on a GPU. With Backend::automatic they serve
// calls that ask for nothing that attention does not give.

/// Why LibTorch's attention would not serve a call, in a sentence; nothing if it would. This leaves out the device and
/// the layout of the patterns in memory.
std::optional<std::string> options_against_attention(const RetrieveInput& input, const RetrieveSettings& settings);

/// Why LibTorch's attention would not serve a call, in a sentence; nothing if it would. The call needs all dimensions,
/// and beta as the caller gave it. This does not wait for a device.
std::optional<std::string> reason_against_attention(const RetrieveInput& input, const RetrieveSettings& settings);

/// Retrieves by LibTorch's attention. The call needs all dimensions, and must be one that reason_against_attention()
/// has nothing against. Where patterns are NaN, the logsumexp need not be NaN.
RetrieveResult retrieve_attention(const RetrieveInput& input, const RetrieveSettings& settings);

}  // namespace hopfield::detail
