#pragma once

#include <hopfield/core/ode.h>
#include <hopfield/memory/lagrangian_functions.h>

#include <ATen/core/Tensor.h>

#include <string>

/// What becomes of a trajectory of a LagrangianNetwork, in numbers and in sentences.
namespace hopfield::memory::detail {

/// Watches one layer for motion y of which (tau y).H y is negative, where H is the Hessian of the layer's Lagrangian.
class HessianWatch {
 public:
  /// @param time_constant  tau [w] or [], undefined: 1
  /// @param states         [Q, ..], one row for each that is watched, of the type and device of what see() will be
  /// given
  HessianWatch(const Lagrangian& lagrangian, at::Tensor time_constant, const at::Tensor& states);

  /// Looks at the states x [n, w] of the rows `which` [n] int64, different ones, which move along y [n, w], at the
  /// times [n] float64.
  void see(const at::Tensor& which, const at::Tensor& time, const at::Tensor& x, const at::Tensor& y);

  /// [Q] bool
  at::Tensor is_positive() const { return first_negative_.isinf(); }
  /// Where the first row was seen to be negative, in a clause about `layer`.
  std::string breach(const char* layer) const;

 private:
  const Lagrangian& lagrangian_;
  at::Tensor time_constant_;
  double tolerance_;
  at::Tensor first_negative_;  // [Q] float64, a time or infinity
};

/// Whether the energy can be relied on not to rise, in a sentence.
std::string promise_of(const HessianWatch& feature, const HessianWatch& hidden);
/// Where the first row that did not reach the end stopped, and why, in a sentence; nothing if all of them reached it.
std::string failure_of(const core::OdeResult& result, double end);
/// After which update of [updates + 1, Q, d] a state is not finite, in a sentence; nothing if all of them are.
std::string overflow_of(const at::Tensor& states);

}  // namespace hopfield::memory::detail
