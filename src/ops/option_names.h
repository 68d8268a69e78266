#pragma once

#include <hopfield/ops/iteration.h>

namespace hopfield::detail {

// The names of options whose value is a name and a number. The dispatcher's ops take the two apart.
const char* name_of(const Gradient& gradient);
const char* name_of(const Separation& separation);

}  // namespace hopfield::detail
