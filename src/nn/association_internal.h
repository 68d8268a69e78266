#pragma once

#include <hopfield/nn/association.h>

namespace hopfield::nn {

/// The layer's masks, checked, in the op's shapes, with `appended` columns that nothing excludes.
void set_masks(RetrieveInput& input, const AssociationMasks& masks, int64_t batch, int64_t heads, int64_t appended);

}  // namespace hopfield::nn
