#pragma once

#include <hopfield/theory/separation.h>

#include <ATen/core/Tensor.h>

#include <string>

namespace hopfield::theory {

/// Which patterns theorems 3 to 5 of Ramsauer et al. 2021 speak about: those that are well separated at a beta.
struct Guarantees {
  PatternSeparation separation;
  double beta = 0.0;
  double required = 0.0;      ///< the Delta from which on a pattern is well separated
  double radius = 0.0;        ///< 1 / (beta N M), of the ball around it that has exactly one fixed point
  at::Tensor well_separated;  ///< [N] bool

  /// How many patterns are well separated.
  int64_t count() const;
  /// What holds for a pattern, such as "no guarantee: Delta_7 = 0.31 < 0.94".
  /// @throws c10::Error if there is no such pattern
  std::string words(int64_t pattern) const;
};

/// @param patterns  [N, d] float32 or float64, N >= 2
/// @throws c10::Error for patterns that pattern_separation() refuses, patterns that are all zero, and beta <= 0
Guarantees guarantees(const at::Tensor& patterns, double beta);
/// The same for patterns whose separation is known.
Guarantees guarantees(const PatternSeparation& separation, double beta);

/// Theorems 4 and 5 for queries, beside what happens when they are updated. All numbers are float64. The theorems speak
/// about queries xi in the ball around a well-separated pattern x_i, with f(xi) one update and x_i* the fixed point in
/// that ball:
///
///     T4: |f(xi) - x_i*| <= |J| |xi - x_i*|,  |J| <= 2 beta N M^2 (N-1) exp(-beta (Delta_i - 2 r M)),
///         r = max(|xi - x_i|, |x_i* - x_i|)
///     T5: |f(xi) - x_i| <= 2 (N-1) M exp(-beta (Delta_i - 2 r M)), and if both distances are at most 1 / (2 beta M),
///         |x_i* - x_i| <= 2 e (N-1) M exp(-beta Delta_i)
///
/// In floating point, the right-hand sides hold up to rounding: compare with a slack of 8 units in the last place of M.
struct QueryBounds {
  at::Tensor pattern;      ///< the stored pattern nearest to each query [Q], int64
  at::Tensor distance;     ///< |xi - x_i| [Q]
  at::Tensor qualifies;    ///< [Q] bool: x_i is well separated, and the query and x_i* lie in its ball
  at::Tensor fixed_point;  ///< x_i*: where updates that begin at x_i end [Q, d]
  at::Tensor updated;      ///< f(xi) [Q, d]

  at::Tensor jacobian_bound;   ///< T4: bound of |J| [Q]
  at::Tensor update_distance;  ///< T4, left-hand side: |f(xi) - x_i*| [Q]
  at::Tensor update_bound;     ///< T4, right-hand side [Q]

  at::Tensor retrieval_error;    ///< T5, left-hand side: |f(xi) - x_i| [Q]
  at::Tensor retrieval_bound;    ///< T5, right-hand side [Q]
  at::Tensor fixed_point_error;  ///< T5, left-hand side: |x_i* - x_i| [Q]
  at::Tensor fixed_point_bound;  ///< T5, right-hand side [Q]; infinite where a distance is above 1 / (2 beta M)
};

/// @param patterns    [N, d]
/// @param queries     [Q, d], of the patterns' type and device
/// @param guarantees  of these patterns
/// @throws c10::Error if the queries do not fit the patterns, or the guarantees are those of other patterns
QueryBounds query_bounds(const at::Tensor& patterns, const at::Tensor& queries, const Guarantees& guarantees);

/// Theorems 1 and 2, shown by running: along updates the energy never rises, and where they end, the gradient of the
/// energy, xi - f(xi), is zero. Computed in float64.
struct Trajectories {
  at::Tensor energy;    ///< E after 0, 1, .. updates [most updates + 1, Q]; a state that has converged keeps its energy
  at::Tensor state;     ///< where the states ended [Q, d]
  at::Tensor steps;     ///< updates made [Q], int64
  at::Tensor gradient;  ///< |xi - f(xi)| there [Q]
  double largest_rise = 0;  ///< of the energy in one update, relative to max(1, |E|); negative or zero if it never rose
};

/// Updates queries [Q, d] until none moves by more than 1e-12 M, or until `most_updates` have been made.
/// @throws c10::Error as query_bounds(), for beta <= 0 and for most_updates < 1
Trajectories run(const at::Tensor& patterns, double beta, const at::Tensor& queries, int64_t most_updates = 1000);

}  // namespace hopfield::theory
