#pragma once

#include <hopfield/memory/memory.h>

#include <memory>

namespace hopfield::memory {

namespace detail {
struct MemoryFile;
}

/// The dense associative memory with an exponential F: d neurons with the values -1 and 1, and a number of patterns
/// that grows exponentially with d, up to about 2^(d/2) where cues have no errors.
///
///     memory::ExponentialMemory memory(patterns);   // [N, d] of -1 and 1
///     auto recall = memory.retrieve(noisy);         // [Q, d]
///     recall.state, recall.matched, recall.match
///
/// The energy is
///
///     E(s) = -log sum_i exp(x_i.s),
///
/// the logarithm of the paper's -sum_i exp(x_i.s), which falls when that falls and does not overflow. An update gives
/// s_j the value with the lower energy, and keeps s_j if both values have the same: asynchronous updates never raise
/// the energy. The local field of a neuron is half of what the energy falls when s_j goes from -1 to 1. It is about 1
/// for a retrieved pattern, and never more; the temperature has this unit. In synchronous updates all neurons decide
/// from the same state.
///
/// `steps`, `residual`, `period` and random numbers are those of BinaryNetwork. Energy differences are computed in
/// float64, relative to the pattern with the largest overlap. As in PolynomialMemory, updates without noise do not
/// depend on rounding, and what becomes of a query depends neither on the rest of the batch nor on threads. A sweep
/// takes time for N d operations a query, and memory for a tile of queries x patterns.
///
/// Source: Demircigil, Heusel, Loewe, Upgang, Vermet, "On a model of associative memory with huge storage capacity",
/// Journal of Statistical Physics, 2017, section 2.
class ExponentialMemory final : public Memory {
 public:
  ExponentialMemory() = default;
  /// Stores patterns [N, d] of -1 and 1 without copying them. Do not change them in place afterwards.
  explicit ExponentialMemory(const at::Tensor& patterns);

  const char* kind() const override { return "ExponentialMemory"; }
  static std::unique_ptr<Memory> read(const detail::MemoryFile& file);

 protected:
  bool has_binary_states() const override { return true; }
  Recall recall(const at::Tensor& queries, const RecallSettings& settings) const override;
  at::Tensor energy_of(const at::Tensor& states) const override;
};

}  // namespace hopfield::memory
