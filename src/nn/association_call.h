#pragma once

#include <hopfield/nn/association.h>

namespace hopfield::nn {

/// One call of a layer, in the form that every route takes: batch first or ragged, with a batch dimension, before any
/// LayerNorm. The projection is always given: where it is the stored patterns, both are the same tensor object.
struct AssociationCall {
  AssociationInput patterns;
  at::Tensor state_offsets = {};  ///< [N + 1], or undefined: dense queries
  at::Tensor offsets = {};        ///< [N + 1] of stored and projection, or undefined: dense patterns
  Masks masks = {};               ///< in the shapes that users give them
  AssociationRequest request = {};
};

}  // namespace hopfield::nn
