#pragma once

#include <hopfield/ops/iteration.h>

namespace hopfield {

// Options whose value is a kind and a number: the dispatcher's ops take the two apart, the kind by its name.
const char* to_string(Gradient::Kind kind);

namespace detail {

/// The number is ignored by kinds that have none.
Gradient gradient_of(Gradient::Kind kind, int64_t steps);
Separation separation_of(Separation::Kind kind, double alpha);

}  // namespace detail

}  // namespace hopfield
