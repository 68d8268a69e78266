#pragma once

#include "memory/interaction.h"
#include "memory/sweeps.h"

#include <ATen/core/Tensor.h>

namespace hopfield::memory::detail {

/// A tile of queries that a dense associative memory updates. No update depends on rounding, and none therefore on the
/// other queries, the threads or the device: where a sum over patterns is too close to zero for its sign to be certain,
/// the sign is computed from how often each overlap occurs.
struct DenseTile {
  const Interaction& interaction;
  at::Tensor patterns;  ///< [N, d]
  at::Tensor columns;   ///< the patterns [d, N] int8, contiguous, on the CPU
  at::Tensor states;    ///< [Q, d], contiguous; updates change them in place
  at::Tensor overlaps;  ///< overlaps_of() them [Q, N]; updates keep them up to date
};

/// The overlaps x_i.s of states [Q, d] and patterns [N, d]. [Q, N] int32
at::Tensor overlaps_of(const at::Tensor& states, const at::Tensor& patterns);

/// A sweep of asynchronous updates for the queries `active` [n]. Returns how many neurons of each have changed [n].
at::Tensor update_in_order(DenseTile& tile, const Sweep& sweep, const at::Tensor& active);
/// The same in LibTorch operations: for other devices than the CPU.
at::Tensor update_in_order_composite(DenseTile& tile, const Sweep& sweep, const at::Tensor& active);

/// A synchronous update for the queries `active` [n]. Returns how many neurons of each have changed [n].
at::Tensor update_at_once(DenseTile& tile, const Sweep& sweep, const at::Tensor& active);

/// The energies of states with these overlaps [Q, N]. [Q] float64
at::Tensor energies_of(const Interaction& interaction, const at::Tensor& overlaps);
/// The same in LibTorch operations.
at::Tensor energies_composite(const Interaction& interaction, const at::Tensor& overlaps);

}  // namespace hopfield::memory::detail
