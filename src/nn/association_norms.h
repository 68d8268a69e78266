#pragma once

#include "nn/association_call.h"
#include <hopfield/nn/hopfield.h>

namespace hopfield::nn {

/// The three roles of a call after the layer's LayerNorms. Stored patterns and values that no query may attend to are
/// zeros before them. So are queries that are padding and hold NaN or infinity, where the queries are the stored
/// patterns.
AssociationInput normalized_patterns(HopfieldImpl& layer, const AssociationCall& call);

/// The state patterns alone.
at::Tensor normalized_state(HopfieldImpl& layer, const at::Tensor& state);

}  // namespace hopfield::nn
