#pragma once

#include "nn/association_call.h"

namespace hopfield::nn {

/// How a call is computed. All routes give the same results up to rounding.
enum class AssociationRoute {
  absorbed,              ///< pool() on the stored patterns as they come: keys and values are never formed
  projected_together,    ///< one LayerNorm and one product project the patterns in all three roles, then retrieve()
  projected_one_by_one,  ///< each role is normalised and projected by itself, then retrieve()
};

/// The only place that chooses the route. Between absorbing and projecting, the choice depends on the options, the
/// number of queries and whether the batch shares them, the type and the device of the stored patterns, on which
/// tensors are the same and on which results are asked for, but neither on the number of stored patterns nor on
/// threads. Masks do not matter either, but for one exception: the GPU's kernels for pool() take no association mask,
/// so that calls with one are projected there.
AssociationRoute choose_route(const AssociationSettings& settings, const AssociationCall& call);

}  // namespace hopfield::nn
