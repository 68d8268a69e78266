#pragma once

#include <hopfield/memory/memory.h>
#include <hopfield/ops/option_macro.h>

#include <memory>

namespace hopfield::memory {

namespace detail {
struct MemoryFile;
}

struct PolynomialSettings {
  /// The degree n of F(x) = x^n, at least 2. With an even degree, the inverse of a pattern is as stable as the pattern.
  int64_t degree = 3;
  /// Whether F is 0 for negative x.
  bool rectified = false;
};

class PolynomialOptions {
  using Derived = PolynomialOptions;
  using Settings = PolynomialSettings;

 public:
  HOPFIELD_OPTION(degree)
  HOPFIELD_OPTION(rectified)

  const PolynomialSettings& settings() const { return settings_; }

 private:
  PolynomialSettings settings_;
};

/// The dense associative memory with a polynomial F: d neurons with the values -1 and 1, and a number of patterns that
/// grows as d^(n-1).
///
///     memory::PolynomialMemory memory(patterns, memory::PolynomialOptions().degree(3));   // [N, d] of -1 and 1
///     auto recall = memory.retrieve(noisy);                                               // [Q, d]
///     recall.state, recall.matched, recall.match
///
/// The energy is
///
///     E(s) = -d/n sum_i F(x_i.s / d),
///
/// which is that of the paper, -sum_i F(x_i.s), divided by n d^(n-1): it can be represented whatever n and d are. An
/// update gives s_j the value with the lower energy, and keeps s_j if both values have the same: asynchronous updates
/// never raise the energy. The local field of a neuron is half of what the energy falls when s_j goes from -1 to 1. It
/// is about 1 for a retrieved pattern, and the temperature has this unit. In synchronous updates all neurons decide
/// from the same state. With n = 2 the memory is the BinaryNetwork with the rule hebb, whose energy is higher by N / 2.
///
/// `steps`, `residual`, `period` and random numbers are those of BinaryNetwork. Updates without noise do not depend on
/// rounding: energy differences are sums in float64 over overlaps x_i.s, which are integers, and a sum that is too
/// close to zero for its sign to be certain is computed from how often each overlap occurs. What becomes of a query
/// depends neither on the rest of the batch nor on threads. A sweep takes time for N d operations a query, and memory
/// for a tile of queries x patterns.
///
/// Source: Krotov, Hopfield, "Dense associative memory for pattern recognition", NIPS 2016, section 2.
class PolynomialMemory final : public Memory {
 public:
  /// @throws c10::Error if the degree is below 2.
  explicit PolynomialMemory(const PolynomialOptions& options = {});
  /// Stores patterns [N, d] of -1 and 1 without copying them. Do not change them in place afterwards.
  explicit PolynomialMemory(const at::Tensor& patterns, const PolynomialOptions& options = {});

  int64_t degree() const { return settings_.degree; }
  bool rectified() const { return settings_.rectified; }

  const char* kind() const override { return "PolynomialMemory"; }
  static std::unique_ptr<Memory> read(const detail::MemoryFile& file);

 protected:
  bool has_binary_states() const override { return true; }
  Recall recall(const at::Tensor& queries, const RecallSettings& settings) const override;
  at::Tensor energy_of(const at::Tensor& states) const override;
  void write(io::SafetensorsFile& file) const override;

 private:
  PolynomialSettings settings_;
};

}  // namespace hopfield::memory

#undef HOPFIELD_OPTION
