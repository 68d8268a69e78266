#pragma once

#include <hopfield/core/separation.h>
#include <hopfield/ops/option_macro.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace hopfield {

/// A value for all heads, or one for each head.
template <typename T>
class PerHead {
 public:
  PerHead(T value) : values_{value} {}                            // NOLINT: conversion intended
  PerHead(std::initializer_list<T> values) : values_(values) {}   // NOLINT: conversion intended
  PerHead(std::vector<T> values) : values_(std::move(values)) {}  // NOLINT: conversion intended
  const std::vector<T>& values() const { return values_; }

 private:
  std::vector<T> values_;
};

/// The value of update_steps_max for updates until the stop rule is met, at most update_steps_cap of them.
constexpr int64_t kUntilConverged = -1;

/// When a state stops being updated.
enum class StopRule {
  /// Each state by itself, as soon as |xi_{t+1} - xi_t|_2 <= update_steps_eps: it never depends on the rest of the
  /// batch. update_steps_eps = 0 means exactly update_steps_max updates. (Ramsauer et al. 2021, section 2.)
  per_query,
  /// A head as a whole: when the largest, over the batch, Frobenius norm of the difference of two consecutive
  /// association matrices is <= update_steps_eps. The rule of the Python package hflayers.
  per_head,
};

/// The implementation that serves a call.
enum class Backend {
  automatic,  ///< the fused kernels where they can serve the call, otherwise LibTorch operations; on a GPU, LibTorch's
              ///< attention may serve calls of retrieve() without updates and without a gradient
  composite,  ///< plain LibTorch operations
  fused,      ///< the fused kernels; if they cannot serve the call, an error that says why
};

/// How gradients are computed through the updates.
class Gradient {
 public:
  enum class Kind { unrolled, last, implicit };

  /// Through all updates; exact.
  static Gradient unrolled() { return {Kind::unrolled, 0}; }
  /// Through the last k updates: the state before them is treated as a constant. With k = T that is the query itself;
  /// with k > T nothing is left out.
  static Gradient last(int64_t k) { return {Kind::last, k}; }
  /// The gradient of the fixed point, by solving (I - J) u = g with conjugate gradients. It needs update_steps_max =
  /// kUntilConverged. States that did not converge get the gradient last(1). The query receives a zero gradient, since
  /// a fixed point does not move with its start. There is no second derivative.
  static Gradient implicit() { return {Kind::implicit, 0}; }

  Kind kind() const { return kind_; }
  int64_t steps() const { return steps_; }

 private:
  Gradient(Kind kind, int64_t steps) : kind_(kind), steps_(steps) {}
  Kind kind_;
  int64_t steps_;
};

/// How a state is updated before the read-out: shared by the functional API and the layers.
struct IterationSettings {
  /// Number of updates T, followed by one read-out; kUntilConverged (or any negative number): until the stop rule is
  /// met.
  PerHead<int64_t> update_steps_max = 0;
  /// Threshold of the stop rule.
  PerHead<double> update_steps_eps = 1e-4;
  /// Most updates that "until converged" makes.
  int64_t update_steps_cap = 256;
  StopRule stop_rule = StopRule::per_query;
  Gradient gradient = Gradient::unrolled();
  /// How scores become the weights of an association. The fused kernels of pools, and of GPUs, know softmax alone.
  Separation separation = Separation::softmax();
  Backend backend = Backend::automatic;
};

/// Chained setters for IterationSettings, returning the derived options.
template <typename Derived, typename Settings>
class IterationOptions {
 public:
  HOPFIELD_OPTION(update_steps_max)
  HOPFIELD_OPTION(update_steps_eps)
  HOPFIELD_OPTION(update_steps_cap)
  HOPFIELD_OPTION(stop_rule)
  HOPFIELD_OPTION(gradient)
  HOPFIELD_OPTION(separation)
  HOPFIELD_OPTION(backend)

  /// Updates until the stop rule is met. Short for update_steps_max(kUntilConverged).
  Derived& until_converged() { return update_steps_max(kUntilConverged); }
  /// Exactly `steps` updates, without a stop rule. Short for update_steps_max(steps).update_steps_eps(0).
  Derived& fixed_steps(int64_t steps) { return update_steps_max(steps).update_steps_eps(0.0); }

  const Settings& settings() const { return settings_; }

 protected:
  Settings settings_;
};

const char* to_string(StopRule rule);
const char* to_string(Backend backend);
std::string to_string(const Gradient& gradient);

}  // namespace hopfield

#undef HOPFIELD_OPTION
