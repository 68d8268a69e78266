#pragma once

#include <hopfield/ops/retrieve.h>

#include <optional>

namespace hopfield::detail {

// Masks may hide patterns that are not finite (NaN or infinite). These have to be taken out of the products, since the
// weight 0 times NaN is NaN.

/// The call with all patterns set to zero that are not finite; nothing if a query may attend to one of them. Waits for
/// values.
std::optional<RetrieveInput> without_hidden_nonfinite(RetrieveInput input);

/// The call with those of its stored patterns set to zero that are not finite and that no query may attend to. Waits
/// for no values.
RetrieveInput with_hidden_nonfinite_zeroed(RetrieveInput input);

}  // namespace hopfield::detail
