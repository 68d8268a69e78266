#pragma once

#include <hopfield/ops/iteration.h>

namespace hopfield::detail {

// Names of options whose value has a number beside the name, as the dispatcher's ops take them.
const char* name_of(const Gradient& gradient);
const char* name_of(const Separation& separation);

}  // namespace hopfield::detail
