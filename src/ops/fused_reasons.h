#pragma once

#include "ops/op_call.h"

#include <optional>
#include <string>

namespace hopfield::detail {

/// Why the fused kernels of no device would serve a call, in a sentence; nothing if those of some device might.
std::optional<std::string> reason_against_options(const OpCall& call);

}  // namespace hopfield::detail
