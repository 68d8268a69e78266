#pragma once

#include "ops/retrieve_internal.h"
#include <hopfield/ops/pool.h>

namespace hopfield::detail {

/// The whole op in plain LibTorch operations: keys are formed, retrieve_composite() reads the instances out.
PoolResult pool_composite(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed);

/// The fused kernels of the tensors' device, forward and backward as one node of the graph.
PoolResult pool_fused(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed);

/// The instances as stored patterns that all heads share, with the masks in retrieve's full shapes.
RetrieveInput as_retrieve_input(const PoolInput& input);

}  // namespace hopfield::detail
