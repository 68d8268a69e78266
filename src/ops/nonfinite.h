#pragma once

#include <hopfield/ops/retrieve.h>

#include <optional>

namespace hopfield::detail {

// Patterns that are not finite, NaN or infinite, and that masks hide. They have to leave the products, since 0 * NaN is
// NaN.

/// The call with such patterns set to zero; nothing if something may attend to one of them. Reads values.
std::optional<RetrieveInput> without_hidden_nonfinite(RetrieveInput input);

/// The call with those of its stored patterns set to zero that nothing may attend to. Those that something may attend
/// to stay as they are. Reads no values back.
RetrieveInput with_hidden_nonfinite_zeroed(RetrieveInput input);

}  // namespace hopfield::detail
