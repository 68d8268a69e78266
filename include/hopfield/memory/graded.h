#pragma once

#include <hopfield/core/ode.h>
#include <hopfield/memory/memory.h>
#include <hopfield/memory/per_neuron.h>
#include <hopfield/ops/option_macro.h>

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

namespace hopfield::memory {

namespace detail {
struct MemoryFile;
}

/// The output V = g(v) of a neuron with the potential v, from -1 to 1. Its slope at 0 is the gain.
enum class GainFunction {
  tanh,    ///< tanh(gain v)
  arctan,  ///< 2/pi arctan(pi gain v / 2), the paper's
};

struct GradedSettings {
  /// The slope of the gain function at 0. Outputs are near -1 and 1 where it is large.
  double gain = 10.0;
  GainFunction gain_function = GainFunction::tanh;
  /// tau: the paper's capacitance C. Positive.
  PerNeuron time_constant = 1.0;
  /// R, positive.
  PerNeuron resistance = 1.0;
  /// I, a constant current into each neuron.
  PerNeuron input = 0.0;
  /// W [d, d], symmetric, of the type and device of the patterns. Undefined: Hebb's rule. If it is given, patterns are
  /// stored only to say which of them came back.
  at::Tensor weights;
  /// Queries start at outputs of at most 1 - margin in size, since -1 and 1 themselves belong to infinite potentials.
  double margin = 1e-3;
  /// The integration of potentials over time. steps_max is the most steps that "until converged" makes.
  core::OdeOptions ode;
};

class GradedOptions {
  using Derived = GradedOptions;
  using Settings = GradedSettings;

 public:
  HOPFIELD_OPTION(gain)
  HOPFIELD_OPTION(gain_function)
  HOPFIELD_OPTION(time_constant)
  HOPFIELD_OPTION(resistance)
  HOPFIELD_OPTION(input)
  HOPFIELD_OPTION(weights)
  HOPFIELD_OPTION(margin)
  HOPFIELD_OPTION(ode)

  const GradedSettings& settings() const { return settings_; }

 private:
  GradedSettings settings_;
};

/// The network of neurons with graded response. Their potentials v move in continuous time,
///
///     tau_i dv_i/dt = -v_i / R_i + sum_j W_ij V_j + I_i,   V_j = g(v_j),
///
/// with the weights of Hebb's rule, W = 1/d sum_n x_n x_n^T without its diagonal, unless others are given. Along the
/// way the energy
///
///     E(V) = -1/2 V.W V + sum_i 1/R_i integral_0^V_i g^-1(x) dx - I.V
///
/// never rises, so that each state comes to rest. Where the gain is large, the outputs at rest have the signs of the
/// fixed points of the network of 1982, whose neurons have two values, and their energy.
///
///     memory::GradedNetwork network(memory::GradedOptions().gain(4.0));
///     network.store(patterns);                // [N, d], from -1 to 1
///     auto recall = network.retrieve(noisy);  // recall.state [Q, d]: outputs at rest
///
/// Patterns, queries and states are outputs, from -1 to 1. A state has converged once no potential differs by more than
/// update_steps_eps from R (W V + I), where it would stay. The default is 1e-10 times the largest size that these may
/// have, and 1e-5 times that in float32. `residual` is the largest such difference. `steps` counts the accepted steps
/// of the integration. update_steps_max limits accepted and rejected steps together; until it converges, that limit is
/// OdeOptions::steps_max, not update_steps_cap.
///
/// Source: Hopfield, "Neurons with graded response have collective computational properties like those of two-state
/// neurons", PNAS 81, 1984, equations (5) and (7).
class GradedNetwork final : public Memory {
 public:
  /// @throws c10::Error if an option is out of range.
  explicit GradedNetwork(const GradedOptions& options = {});
  explicit GradedNetwork(const at::Tensor& patterns, const GradedOptions& options = {});

  /// The weights W [d, d] in use.
  at::Tensor weights() const;

  /// The outputs of queries [Q, d] or [d] at the given times: [times, Q, d] or [times, d]. The first time is that of
  /// the queries themselves. Where the integration failed, outputs are NaN.
  /// @throws c10::Error as retrieve(), or if the times do not ascend.
  at::Tensor trajectory(const at::Tensor& queries, const std::vector<double>& times) const;

  const char* kind() const override { return "GradedNetwork"; }
  static std::unique_ptr<Memory> read(const detail::MemoryFile& file);

 protected:
  void learn(int64_t before) override;
  void unlearn(const at::Tensor& kept, const at::Tensor& removed, const at::Tensor& forgotten) override;
  Recall recall(const at::Tensor& queries, const RecallSettings& settings) const override;
  /// At outputs of exactly -1 or 1, the energy with the gain function arctan is infinite.
  at::Tensor energy_of(const at::Tensor& states) const override;
  void write(io::SafetensorsFile& file) const override;

 private:
  struct Circuit;
  Circuit circuit() const;
  core::OdeFunction dynamics(const Circuit& network) const;
  void check_circuit() const;
  at::Tensor per_neuron(const PerNeuron& value) const;
  at::Tensor output_of(const at::Tensor& potential) const;
  at::Tensor potential_of(const at::Tensor& output) const;
  void check_outputs(const at::Tensor& outputs, const char* name) const;

  GradedSettings settings_;
  at::Tensor products_;  // [d, d], the sum of x_n x_n^T
};

}  // namespace hopfield::memory

#undef HOPFIELD_OPTION
