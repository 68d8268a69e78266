#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

/// What the theory of modern Hopfield networks says about given patterns, and what is observed when they run. N
/// patterns of d features; beta is the inverse temperature.
namespace hopfield::theory {

/// How far patterns are apart, in the sense of the theory.
struct PatternSeparation {
  at::Tensor delta;    ///< Delta_i = min over j != i of (x_i.x_i - x_i.x_j) [N], float64; negative if another wins
  at::Tensor nearest;  ///< the j of that minimum [N], int64
  double largest_norm = 0.0;  ///< M = max |x_i|

  int64_t count() const { return delta.size(0); }
};

/// The separation of all patterns [N, d], N >= 2. Takes O(N d) memory: products are made a tile at a time, in the
/// patterns' own type. Each pattern is compared again in float64 with the 64 among which its largest product was, and
/// Delta is computed as x_i.(x_i - x_j), so that equal patterns have exactly Delta = 0.
///
/// Source: Ramsauer et al., "Hopfield Networks is All You Need", ICLR 2021, definition 2.
/// @throws c10::Error if there are fewer than two patterns, or if they are not finite float32 or float64 numbers
PatternSeparation pattern_separation(const at::Tensor& patterns);

/// The separation from which on a pattern is well separated, 2 / (beta N) + ln(2 (N - 1) N beta M^2) / beta: it has a
/// fixed point of its own then, in the ball of sphere_radius() around it. Where beta M^2 is small, the formula can give
/// a negative number, and the ball contains all patterns: the theory says nothing of interest there.
///
/// Source: Ramsauer et al. 2021, appendix A.1.5, assumption of lemma A4.
/// @throws c10::Error unless count >= 2, beta > 0 and largest_norm > 0
double required_separation(int64_t count, double beta, double largest_norm);

/// The radius 1 / (beta N M) of the ball around a well-separated pattern.
/// @throws c10::Error as required_separation()
double sphere_radius(int64_t count, double beta, double largest_norm);

/// The smallest beta from which on the pattern with the separation `delta` is well separated, for this and all larger
/// beta. 0 if it is for every beta, infinity if it is for none, as with delta <= 0.
/// @throws c10::Error as required_separation(), or if delta is NaN
double separating_beta(double delta, int64_t count, double largest_norm);

/// separating_beta() of each pattern [N], float64. Its maximum is the beta at which all patterns are well separated.
at::Tensor separating_betas(const PatternSeparation& separation);

}  // namespace hopfield::theory
