#pragma once

#include <hopfield/core/ode.h>
#include <hopfield/memory/lagrangian_functions.h>
#include <hopfield/memory/per_neuron.h>
#include <hopfield/ops/option_macro.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace hopfield::memory {

/// How the states of a LagrangianMemory move.
enum class Dynamics {
  discrete,    ///< by updates v <- xi^T f(xi g(v)) + I
  continuous,  ///< by the differential equations of both layers
};

struct LagrangianSettings {
  /// L_v, of the d feature neurons.
  Lagrangian feature = Lagrangian::quadratic();
  /// L_h, of the N_h hidden neurons.
  Lagrangian hidden = Lagrangian::log_sum_exp();
  /// Which way a memory retrieves. A network has functions for both.
  Dynamics dynamics = Dynamics::discrete;
  /// tau_f, positive.
  PerNeuron feature_time_constant = 1.0;
  /// tau_h, positive; as a tensor [N_h].
  PerNeuron hidden_time_constant = 1.0;
  /// I, a constant current into each feature neuron.
  PerNeuron input = 0.0;
  /// xi [N_h, d], of the type and device of the patterns. Memories only. Undefined: the patterns themselves, so that
  /// N_h = N. If it is given, patterns are stored only to say which of them came back.
  at::Tensor weights;
  /// The weights [d, N_h] from hidden to feature neurons, which have to be those of the other direction transposed.
  /// Undefined: they are.
  at::Tensor backward_weights;
  /// The integration in continuous time. steps_max is the most steps that "until converged" makes.
  core::OdeOptions ode;
};

class LagrangianOptions {
  using Derived = LagrangianOptions;
  using Settings = LagrangianSettings;

 public:
  LagrangianOptions() = default;
  explicit LagrangianOptions(LagrangianSettings settings) : settings_(std::move(settings)) {}

  /// Model A of the paper: L_v = sum_i |v_i|, for an L_h = sum_i F(h_i) such as power(n). At h = xi g(v) the energy is
  /// -sum_i F(xi_i.sgn(v)): the dense associative memory.
  static LagrangianOptions model_a(const Lagrangian& hidden);
  /// Model B: L_v = |v|^2 / 2, L_h = log(sum_i exp(beta h_i)) / beta. An update is that of attention, v <- xi^T
  /// softmax(beta xi v), and of hopfield::retrieve().
  static LagrangianOptions model_b(double beta);
  /// Model C: L_v = |v|, for an L_h = sum_i F(h_i). At h = xi g(v) the energy is -sum_i F(xi_i.v / |v|).
  static LagrangianOptions model_c(const Lagrangian& hidden);

  HOPFIELD_OPTION(feature)
  HOPFIELD_OPTION(hidden)
  HOPFIELD_OPTION(dynamics)
  HOPFIELD_OPTION(feature_time_constant)
  HOPFIELD_OPTION(hidden_time_constant)
  HOPFIELD_OPTION(input)
  HOPFIELD_OPTION(weights)
  HOPFIELD_OPTION(backward_weights)
  HOPFIELD_OPTION(ode)

  const LagrangianSettings& settings() const { return settings_; }

 private:
  LagrangianSettings settings_;
};

/// States of both layers after some time. Q rows.
struct LagrangianState {
  at::Tensor v;         ///< [Q, d]
  at::Tensor h;         ///< [Q, N_h]
  at::Tensor time;      ///< [Q] float64, of the states: an earlier one where the integration failed
  std::string failure;  ///< a sentence on where and why it failed first, or nothing
};

/// States on their way. Q rows.
struct LagrangianTrajectory {
  at::Tensor times;                ///< [times] float64; numbers of updates where time is discrete
  at::Tensor v;                    ///< [times, Q, d], NaN where the integration had failed before
  at::Tensor h;                    ///< [times, Q, N_h], likewise
  at::Tensor energy;               ///< [times, Q], likewise
  LagrangianState last;            ///< the last states, also of rows that failed on the way
  at::Tensor hessian_is_positive;  ///< [Q] bool: no Hessian was seen to be negative along the motion of the row
  std::string promise;             ///< a sentence on whether the energy can be relied on not to rise
};

/// Two layers of neurons, of which those of one know only those of the other: d feature neurons v, N_h hidden neurons
/// h. Their outputs are the gradients g of L_v and f of L_h, and
///
///     tau_f dv/dt = xi^T f(h) - v + I,    tau_h dh/dt = xi g(v) - h
///
/// with weights xi [N_h, d]. The energy
///
///     E(v, h) = (v - I).g - L_v(v) + h.f - L_h(h) - f.xi g
///
/// changes by dE/dt = -(tau_f dv/dt).H_v dv/dt - (tau_h dh/dt).H_h dh/dt with the Hessians H of the Lagrangians. It
/// never rises where they are positive semi-definite and all neurons of a layer have the same time constant. With
/// different time constants in a layer this holds only if its Lagrangian is a sum over neurons: it does not for
/// log_sum_exp(), spherical_norm() and layer_norm(). Nothing bounds the energy from below in general: with quadratic()
/// against power(4), for one, states run to infinity while it falls.
///
/// Hidden neurons that are infinitely fast, tau_h -> 0, are at h = xi g(v). An Euler step of the length tau_f of the
/// others is then the update v <- xi^T f(xi g(v)) + I, which does not raise E(v, xi g(v)) if both Lagrangians are
/// convex.
///
///     memory::LagrangianNetwork network(weights, memory::LagrangianOptions::model_b(2.0));  // [N_h, d]
///     auto later = network.updates(queries, 3);                                            // [Q, d]
///     auto path = network.trajectory(queries, {0.0, 0.5, 1.0});                            // path.energy [3, Q]
///
/// Where gradients are recorded, all results but those of trajectory() and update_trajectory() are differentiable with
/// respect to weights, states, input and time constants. Lengths of steps in time count as constants: see core/ode.h.
///
/// States v [Q, d] and h [Q, N_h] have the type and device of the weights. Activations that jump, as that of
/// absolute_value(), are for discrete time: the solver can come to a halt at a jump, and says so in `failure`.
///
/// Source: Krotov, Hopfield, "Large associative memory problem in neurobiology and machine learning", ICLR 2021,
/// equations (1), (2) and (4); the discrete update: section 3.
class LagrangianNetwork {
 public:
  /// @param weights  xi [N_h, d], float32 or float64, with the gradient that is to flow. LagrangianSettings::weights
  /// has
  ///                 no say here.
  /// @throws c10::Error if weights, or options, are not as described, or do not fit each other.
  explicit LagrangianNetwork(at::Tensor weights, const LagrangianOptions& options = {});

  const at::Tensor& weights() const { return weights_; }
  const LagrangianSettings& settings() const { return settings_; }

  /// h = xi g(v), where hidden neurons come to rest for fixed v: [Q, N_h].
  at::Tensor hidden_at_rest(const at::Tensor& v) const;
  /// One update: [Q, d].
  at::Tensor update(const at::Tensor& v) const;
  /// The states after `count` updates: [Q, d].
  /// @throws c10::Error if the count is negative.
  at::Tensor updates(const at::Tensor& v, int64_t count) const;
  /// E(v, h): [Q].
  at::Tensor energy(const at::Tensor& v, const at::Tensor& h) const;
  /// The effective energy E(v, xi g(v)) = (v - I).g - L_v(v) - L_h(xi g): [Q].
  at::Tensor energy(const at::Tensor& v) const;

  /// The states after some time, with hidden neurons at rest in the beginning, or at h.
  /// @throws c10::Error if the time is negative. A row that the solver cannot step is a `failure`, not an error.
  LagrangianState integrate(const at::Tensor& v, double time) const;
  LagrangianState integrate(const at::Tensor& v, const at::Tensor& h, double time) const;

  /// The states at ascending times, the first of which is that of v, and of h, where it is given. Hessians are
  /// multiplied with the motion at every evaluation of the right-hand side, and so at every accepted step: one counts
  /// as negative where (tau y).H y < -1e-9 |tau y| (|y| + |H y|) for y = dv/dt or dh/dt, 1e-4 in float32. What a step
  /// tries before it is rejected counts too. Records no gradient.
  /// @throws c10::Error if the times do not ascend.
  LagrangianTrajectory trajectory(const at::Tensor& v, const std::vector<double>& times) const;
  LagrangianTrajectory trajectory(const at::Tensor& v, const at::Tensor& h, const std::vector<double>& times) const;
  /// The states v after 0, 1, .., `count` updates, with h = xi g(v) and the effective energy. The Hessians before and
  /// after an update are multiplied with the difference that it makes, as above but with tau = 1.
  LagrangianTrajectory update_trajectory(const at::Tensor& v, int64_t count) const;

  /// The right-hand side of the differential equations, of states [v, h] of both layers [Q, d + N_h]. It keeps a copy
  /// of the network.
  core::OdeFunction right_hand_side() const;

 private:
  void check_v(const at::Tensor& v) const;
  void check_h(const at::Tensor& v, const at::Tensor& h) const;
  at::Tensor joined(const at::Tensor& v, const at::Tensor& h) const;
  at::Tensor feature_part(const at::Tensor& state) const;
  at::Tensor hidden_part(const at::Tensor& state) const;
  at::Tensor updated(const at::Tensor& v) const;
  at::Tensor energy_at(const at::Tensor& v, const at::Tensor& h) const;
  at::Tensor effective_energy_at(const at::Tensor& v) const;

  LagrangianSettings settings_;
  at::Tensor weights_;                // [N_h, d]
  at::Tensor input_;                  // [d] or []
  at::Tensor feature_time_constant_;  // [d] or []
  at::Tensor hidden_time_constant_;   // [N_h] or []
};

}  // namespace hopfield::memory

#undef HOPFIELD_OPTION
