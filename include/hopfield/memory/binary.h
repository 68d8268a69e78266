#pragma once

#include <hopfield/memory/memory.h>
#include <hopfield/ops/option_macro.h>

#include <memory>
#include <string>
#include <vector>

namespace hopfield::memory {

namespace detail {
struct MemoryFile;
struct BinaryWeights;
}  // namespace detail

/// How the weights W [d, d] of a network follow from its patterns x_1, .., x_N.
enum class LearningRule {
  /// W = sum_i x_i x_i^T / d. About 0.138 d random patterns come back with few errors.
  /// Source: Hopfield, "Neural networks and physical systems with emergent collective computational abilities", 1982.
  hebb,
  /// Patterns are learned one by one: w_jk grows by (x_j x_k - x_j h_kj - x_k h_jk) / d, where h_jk = sum over l other
  /// than j and k of w_jl x_l. The weights depend on the order of the patterns. More patterns fit than with hebb.
  /// Source: Storkey, "Increasing the capacity of a Hopfield network without sacrificing functionality", 1997.
  storkey,
  /// W is the projection to the space that the patterns span. Patterns that depend on others linearly change nothing.
  /// Every pattern is a fixed point as long as N < d. Each call of store() costs a singular value decomposition of all
  /// patterns: store many at once.
  /// Source: Personnaz, Guyon, Dreyfus, "Information storage and retrieval in spin-glass like neural networks", 1985.
  pseudo_inverse,
};

struct BinarySettings {
  LearningRule rule = LearningRule::hebb;
  /// Whether neurons act on themselves: the diagonal of W stays what the rule makes it (N / d with hebb). Otherwise it
  /// is zero.
  bool self_coupling = false;
};

class BinaryOptions {
  using Derived = BinaryOptions;
  using Settings = BinarySettings;

 public:
  HOPFIELD_OPTION(rule)
  HOPFIELD_OPTION(self_coupling)

  const BinarySettings& settings() const { return settings_; }

 private:
  BinarySettings settings_;
};

/// What a state of a network is.
enum class StateKind {
  pattern,   ///< a stored pattern
  inverse,   ///< -x of a stored pattern x
  mixture,   ///< sgn(+-x_i +- x_j +- x_k) of three stored patterns
  spurious,  ///< something else
};

struct StateName {
  StateKind kind = StateKind::spurious;
  std::vector<int64_t> patterns;  ///< indices of the patterns it is made of: none, one or three, in ascending order
  std::vector<int> signs;         ///< 1 or -1 for each of them
};

/// The Hopfield network of 1982: d neurons with the values -1 and 1.
///
///     memory::BinaryNetwork network(patterns);        // [N, d] of -1 and 1
///     auto recall = network.retrieve(noisy);          // [Q, d]
///     auto names = network.name_state(recall.state);  // which pattern, mixture, ..
///
/// The local field of a neuron is h_i = sum_j w_ij s_j - b_i with the weights W of the learning rule and thresholds b,
/// 0 unless set. An update sets s_i to sgn(h_i); it keeps s_i if h_i is 0. Where no neuron acts on itself, asynchronous
/// updates never raise the energy
///
///     E(s) = -1/2 s.W s + b.s,
///
/// and the local field is half of what the energy falls when s_i goes from -1 to 1. This is the unit of thresholds and
/// of the temperature: the local fields of a retrieved pattern are about 1.
///
/// `steps` of a Recall counts sweeps over all neurons, or updates of all at once; `residual` is the number of neurons
/// that the last one changed. Asynchronous sweeps end when one changes nothing. Synchronous updates also end when a
/// state is that of two updates ago: a cycle of two, `period` 2. At a temperature above 0, the random numbers are, like
/// the random orders, a function of the seed, of the sweep and of the neuron alone. Queries of one call therefore meet
/// the same noise: call retrieve() with several seeds for independent samples.
///
/// The weights are rounded to multiples of a power of two, about 2^-23 of the largest local field that is possible in
/// float32, so that local fields are free of rounding errors however they are summed. Those of hebb are exact anyway.
/// No recall depends on the rest of its batch, on threads or on the device.
class BinaryNetwork final : public Memory {
 public:
  explicit BinaryNetwork(const BinaryOptions& options = {});
  /// Stores patterns [N, d] of -1 and 1 without copying them. Do not change them in place afterwards.
  explicit BinaryNetwork(const at::Tensor& patterns, const BinaryOptions& options = {});
  ~BinaryNetwork() override;

  /// Sets the thresholds b [d], of the type and on the device of the patterns. They stay until all patterns are
  /// forgotten.
  /// @throws c10::Error if they are anything else, or not finite.
  void set_thresholds(const at::Tensor& thresholds);
  /// The thresholds b [d].
  at::Tensor thresholds() const;
  /// The weights W [d, d] as the rule makes them.
  at::Tensor weights() const;

  LearningRule rule() const { return settings_.rule; }
  bool self_coupling() const { return settings_.self_coupling; }

  /// Says what each state [Q, d] or [d] is. A state that is both a pattern and an inverse or mixture of others is a
  /// pattern; mixtures are found exactly, whatever the patterns.
  /// @throws c10::Error as retrieve().
  /// Source for mixtures: Amit, Gutfreund, Sompolinsky, "Spin-glass models of neural networks", 1985.
  std::vector<StateName> name_state(const at::Tensor& states) const;

  const char* kind() const override { return "BinaryNetwork"; }
  static std::unique_ptr<Memory> read(const detail::MemoryFile& file);

 protected:
  bool has_binary_states() const override { return true; }
  void learn(int64_t before) override;
  void unlearn(const at::Tensor& kept, const at::Tensor& removed, const at::Tensor& forgotten) override;
  Recall recall(const at::Tensor& queries, const RecallSettings& settings) const override;
  at::Tensor energy_of(const at::Tensor& states) const override;
  void write(io::SafetensorsFile& file) const override;

 private:
  double unit() const;
  void take(const at::Tensor& couplings, const at::Tensor& thresholds);

  BinarySettings settings_;
  at::Tensor couplings_;   // [d, d]: W / unit()
  at::Tensor thresholds_;  // [d]; undefined: zeros
  std::unique_ptr<const detail::BinaryWeights> exact_;
};

}  // namespace hopfield::memory

#undef HOPFIELD_OPTION
