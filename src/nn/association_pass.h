#pragma once

#include "nn/association_call.h"
#include "nn/association_projections.h"
#include <hopfield/nn/hopfield.h>
#include <hopfield/ops/retrieve.h>

namespace hopfield::nn {

/// Computes a checked call by the route that is chosen for it: everything from the LayerNorms to the output projection.
/// The output is [N, L, output_size], of ragged queries [total_L, output_size], before the layer's activation.
AssociationResult run_association(HopfieldImpl& layer, const AssociationCall& call);

// The two ways to compute it.
AssociationResult associate_absorbed(HopfieldImpl& layer, const AssociationCall& call);
AssociationResult associate_projected(AssociationCoreImpl& core, const AssociationCall& call,
                                      const ProjectedPatterns& projected);

/// The op's options for a call.
RetrieveOptions retrieve_options(const AssociationCoreImpl& core, const AssociationRequest& request);

/// What the op gave, with the layer's output in place of the op's and the association where it is asked for.
///
/// @param merged  the heads' outputs side by side [N, L, heads * d_v], of ragged queries [total_L, heads * d_v]
AssociationResult finish(AssociationCoreImpl& core, const AssociationCall& call, const at::Tensor& merged,
                         const RetrieveResult& retrieved);

}  // namespace hopfield::nn
