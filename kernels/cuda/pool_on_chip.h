#pragma once

// Bags that fit into the shared memory of a cluster of blocks stay there for all steps, and device memory is read once.

#include <kernels/cuda/pool_update.h>

#include <string>

namespace hopfield::kernels::cuda {

/// Which bags stay on chip, on the current device.
OnChip choose_on_chip(const PoolCall& call);

/// Enqueues all steps of the bags that the plan lists: one launch for each size of clusters.
[[nodiscard]] std::string pool_on_chip(const PoolForward& f, const OnChip& on_chip, Stream stream);

}  // namespace hopfield::kernels::cuda
