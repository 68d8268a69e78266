#pragma once

#include "memory/sweeps.h"

#include <ATen/core/Tensor.h>

namespace hopfield::memory::detail {

/// The weights of a network, so rounded that sums of them are exact. The local fields of a state s are
/// unit * (couplings s - thresholds).
struct BinaryWeights {
  at::Tensor couplings;   ///< [d, d], symmetric
  at::Tensor thresholds;  ///< [d]
  double unit = 1.0;
};

/// Rounds couplings and thresholds to multiples of the smallest power of two with which the fields of all states, and
/// in float64 their energies too, are exact in the type of the tensors, in whatever order they are summed.
BinaryWeights exact_weights(const at::Tensor& couplings, const at::Tensor& thresholds, double unit);

/// The local fields of states [Q, d] in the unit of the weights: couplings s - thresholds. [Q, d]
at::Tensor fields_of(const BinaryWeights& weights, const at::Tensor& states);

/// The energy -1/2 s.W s + b.s of states [Q, d] from their fields. [Q]
at::Tensor energies_of(const BinaryWeights& weights, const at::Tensor& states, const at::Tensor& fields);

/// A sweep of asynchronous updates for the queries `active` [n], which keeps states and fields [Q, d], both contiguous,
/// up to date. Returns how many neurons of each query have changed [n] int64.
at::Tensor update_in_order(const BinaryWeights& weights, const at::Tensor& states, const at::Tensor& fields,
                           const at::Tensor& active, const Sweep& sweep);
/// The same in LibTorch operations: for other devices than the CPU.
at::Tensor update_in_order_composite(const BinaryWeights& weights, const at::Tensor& states, const at::Tensor& fields,
                                     const at::Tensor& active, const Sweep& sweep);

/// A synchronous update of the states [Q, d] of the queries `active` [n]. Returns how many neurons have changed [n].
at::Tensor update_at_once(const BinaryWeights& weights, const at::Tensor& states, const at::Tensor& active,
                          const Sweep& sweep);

}  // namespace hopfield::memory::detail
