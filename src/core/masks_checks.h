#pragma once

#include <hopfield/core/masks.h>

namespace hopfield::detail {

/// @param function  begins the error message
/// @throws c10::Error if the masks are causal. For calls whose queries and keys are not in one order.
void check_not_causal(const char* function, const Masks& masks);

}  // namespace hopfield::detail
