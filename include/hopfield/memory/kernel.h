#pragma once

#include <hopfield/memory/memory.h>
#include <hopfield/ops/option_macro.h>

#include <memory>

namespace hopfield::memory {

namespace detail {
struct MemoryFile;
}

struct KernelSettings {
  /// Inverse temperature: a pattern acts on states that are closer to it than sqrt(2 / beta). Undefined: 4 / d, with
  /// which patterns of independent features of variance 1 act up to half the distance between two of them.
  std::optional<double> beta;
  /// What is added to the sum of the kernels in the energy. 0: the energy is infinite where no pattern acts.
  double epsilon = 0.0;
};

class KernelOptions {
  using Derived = KernelOptions;
  using Settings = KernelSettings;

 public:
  HOPFIELD_OPTION(beta)
  HOPFIELD_OPTION(epsilon)

  const KernelSettings& settings() const { return settings_; }

 private:
  KernelSettings settings_;
};

/// The dense associative memory of the Epanechnikov kernel, whose energy is
///
///     E(x) = -1/beta log(epsilon + sum_i max(0, 1 - beta/2 |x - x_i|^2)).
///
///     memory::KernelMemory memory(patterns, memory::KernelOptions().beta(2 / ((r - D) * (r - D))));
///     auto recall = memory.retrieve(noisy);
///
/// An update moves a state to the mean of the patterns that are closer than sqrt(2 / beta), and never raises the
/// energy. If r is the least distance of two patterns and beta = 2 / (r - D)^2, then one update from a distance of at
/// most D < r / 2 gives the pattern exactly. Where patterns lie closer to each other, their means can be fixed points
/// too: emergent memories, which match no stored pattern.
///
/// A query on which no pattern acts stays where it is: it has made no step, has not converged, and matches nothing.
///
/// Source: Hoover et al., "Dense Associative Memory with Epanechnikov Energy", 2025 (arXiv 2506.10801).
class KernelMemory final : public Memory {
 public:
  explicit KernelMemory(const KernelOptions& options = {});
  /// Stores patterns [N, d] without copying them. Do not change them in place afterwards.
  explicit KernelMemory(const at::Tensor& patterns, const KernelOptions& options = {});

  /// The inverse temperature in use.
  double beta() const;

  const char* kind() const override { return "KernelMemory"; }
  static std::unique_ptr<Memory> read(const detail::MemoryFile& file);

 protected:
  Recall recall(const at::Tensor& queries, const RecallSettings& settings) const override;
  at::Tensor energy_of(const at::Tensor& states) const override;
  /// By the negative half of the squared distance.
  BestMatches best_matches_of(const at::Tensor& states, int64_t k) const override;
  void write(io::SafetensorsFile& file) const override;

 private:
  /// What the patterns that act on a state have in common.
  struct Neighbours {
    at::Tensor count;    ///< how many there are [Q]
    at::Tensor sum;      ///< of the patterns [Q, d]
    at::Tensor kernels;  ///< of their kernels max(0, 1 - beta/2 |x - x_i|^2) [Q]
  };
  Neighbours neighbours(const at::Tensor& states) const;

  KernelSettings settings_;
};

}  // namespace hopfield::memory

#undef HOPFIELD_OPTION
