#pragma once

#include <hopfield/core/masks.h>

namespace hopfield::detail {

/// Throws if the masks are causal, which nothing serves yet. `function` begins the message.
void check_not_causal(const char* function, const Masks& masks);

}  // namespace hopfield::detail
