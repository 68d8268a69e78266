#pragma once

#include <hopfield/memory/lagrangian_functions.h>
#include <hopfield/memory/lagrangian_network.h>
#include <hopfield/memory/memory.h>

#include <ATen/core/Tensor.h>

#include <memory>

namespace hopfield::memory {

namespace detail {
struct MemoryFile;
}

/// A memory of two layers of neurons whose activations are the gradients of Lagrangians of the caller's choice. Its
/// patterns are the rows of the weights xi, one hidden neuron for each, unless weights are given.
///
///     memory::LagrangianMemory memory(patterns, memory::LagrangianOptions::model_c(memory::Lagrangian::power(4)));
///     auto recall = memory.retrieve(noisy);                             // [Q, d]
///     auto path = memory.network().trajectory(noisy, {0.0, 0.5, 1.0});  // path.energy [3, Q]
///
/// A state is v [Q, d], of the feature neurons. Where L_v is absolute_value() or spherical_norm(), the network sees
/// only the signs or the direction of v; patterns, cues and states are compared as g(v) then, and retrieve() starts
/// from and returns g(v), whose energy and whose next update are those of v. The energy of a state is the effective
/// one, E(v, xi g(v)): LagrangianNetwork has the formulas, the energy of both layers, and what can be differentiated.
///
/// In discrete time (the default), retrieve() makes updates v <- xi^T f(xi g(v)) + I. A state has converged once an
/// update moves it by no more than update_steps_eps, whose default is 1e-12 times the norm of the state, or of the
/// largest pattern if that is larger (1e-6 in float32); `residual` is that distance. In continuous time it integrates
/// both layers from h = xi g(v) on until no |xi^T f - v + I| or |xi g - h| exceeds update_steps_eps, whose default is
/// 1e-8 times the largest of these potentials, v, xi g and xi^T f + I, at the largest pattern, or 1e-8 if they are
/// below 1 (1e-4 in float32); `residual` is the largest of these differences. `steps` counts updates, or accepted
/// steps. update_steps_max limits accepted and rejected steps together; until it converges, that limit is
/// OdeOptions::steps_max. A state that the solver cannot bring to rest is the last one it reached, and has not
/// converged; LagrangianNetwork::trajectory() says why.
///
/// Source: Krotov, Hopfield, "Large associative memory problem in neurobiology and machine learning", ICLR 2021.
class LagrangianMemory final : public Memory {
 public:
  /// @throws c10::Error if an option is out of range.
  explicit LagrangianMemory(const LagrangianOptions& options = {});
  /// Stores patterns [N, d] without copying them. Do not change them in place afterwards.
  explicit LagrangianMemory(const at::Tensor& patterns, const LagrangianOptions& options = {});

  /// The network of the weights in use.
  /// @throws c10::Error if nothing has been stored, or if options do not fit the patterns.
  LagrangianNetwork network() const;
  const LagrangianSettings& settings() const { return settings_; }

  const char* kind() const override { return "LagrangianMemory"; }
  static std::unique_ptr<Memory> read(const detail::MemoryFile& file);

 protected:
  at::Tensor as_keys(const at::Tensor& rows) const override;
  at::Tensor keys() const override { return as_keys(patterns()); }
  void learn(int64_t before) override;
  Recall recall(const at::Tensor& queries, const RecallSettings& settings) const override;
  at::Tensor energy_of(const at::Tensor& states) const override;
  BestMatches best_matches_of(const at::Tensor& states, int64_t k) const override;
  /// @throws c10::Error if a Lagrangian is the caller's own, which a file cannot hold.
  void write(io::SafetensorsFile& file) const override;

 private:
  Recall recall_by_updates(const at::Tensor& queries, const RecallSettings& settings) const;
  Recall recall_in_time(const at::Tensor& queries, const RecallSettings& settings) const;
  double update_steps_eps(const RecallSettings& settings, double otherwise) const;
  double largest_norm() const;
  double largest_potential(const LagrangianNetwork& two_layers) const;

  LagrangianSettings settings_;
};

}  // namespace hopfield::memory
