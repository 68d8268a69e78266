#pragma once

#include "ops/retrieve_internal.h"

#include <optional>
#include <string>

namespace hopfield::detail {

// Without updates, retrieval is attention, and on a GPU LibTorch has kernels for that. They take a call that asks for
// nothing more, Backend::automatic alone hands it to them.

/// One sentence against LibTorch's attention, from all but the device and the memory that the patterns lie in.
std::optional<std::string> options_against_attention(const RetrieveInput& input, const RetrieveSettings& settings);

/// One sentence against LibTorch's attention, or nothing. Needs all dimensions, and beta as the caller gave it. Waits
/// for no device.
std::optional<std::string> reason_against_attention(const RetrieveInput& input, const RetrieveSettings& settings);

/// Needs all dimensions, and a call that reason_against_attention() has nothing against. Where patterns are NaN, the
/// logsumexp need not be.
RetrieveResult retrieve_attention(const RetrieveInput& input, const RetrieveSettings& settings);

}  // namespace hopfield::detail
