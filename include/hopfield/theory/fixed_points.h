#pragma once

#include <hopfield/ops/option_macro.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace hopfield::theory {

struct FixedPointSettings {
  /// [M, d], floating-point: states to start from. Undefined: none but the random ones.
  at::Tensor starts;
  /// How many starts are drawn at random. Each of their features is normal, with the mean and the standard deviation
  /// that the feature has among the patterns.
  int64_t random_starts = 1000;
  uint64_t seed = 0;
  /// A state is a fixed point if an update moves it by no more than this part of the largest pattern's norm. Where beta
  /// times the square of that norm is 1e6 or more, rounding can keep states between patterns from it.
  double tolerance = 1e-12;
  /// Fixed points no further apart than this part of the largest pattern's norm are one.
  double merge_distance = 1e-6;
  /// Most updates of a start. States converge slowly where the spectral norm is close to 1.
  int64_t update_steps_cap = 20000;
};

class FixedPointOptions {
  using Derived = FixedPointOptions;
  using Settings = FixedPointSettings;

 public:
  HOPFIELD_OPTION(starts)
  HOPFIELD_OPTION(random_starts)
  HOPFIELD_OPTION(seed)
  HOPFIELD_OPTION(tolerance)
  HOPFIELD_OPTION(merge_distance)
  HOPFIELD_OPTION(update_steps_cap)

  const FixedPointSettings& settings() const { return settings_; }

 private:
  FixedPointSettings settings_;
};

/// The kinds of fixed points by k90, the fewest weights of softmax(beta X xi*) that sum to 0.9. The first that fits
/// counts: with one or two patterns, k90 = 1 is a single pattern, not the global average.
enum class FixedPointKind {
  single_pattern,  ///< k90 = 1
  global_average,  ///< k90 >= N / 2
  metastable,      ///< all others: an average over some patterns
};
const char* to_string(FixedPointKind kind);

/// Fixed points xi* = X^T softmax(beta X xi*) of the patterns X [N, d], those first at which most starts ended. F fixed
/// points; the tensors are float64, or int64 where that is said, and on the device of the patterns.
struct FixedPoints {
  at::Tensor states;                  ///< [F, d]
  std::vector<FixedPointKind> kinds;  ///< [F]
  at::Tensor k90;                     ///< [F] int64
  /// [F], each [k90] int64: the patterns of the k90 largest weights, largest first. Of a single pattern, its index.
  std::vector<at::Tensor> members;
  at::Tensor residual;  ///< [F] |xi* - f(xi*)| with one update f, which is the norm of the energy's gradient
  /// [F] The largest eigenvalue of the update's Jacobian there. Below 1, states nearby are drawn to the fixed point.
  at::Tensor spectral_norm;
  at::Tensor starts;  ///< [F] int64, how many starts ended there, those given and those drawn
  /// [F] The share of the random starts that ended there, which estimates the size of its basin; NaN without any.
  at::Tensor basin;
  at::Tensor basin_error;     ///< [F] its standard error sqrt(b (1 - b) / random_starts)
  at::Tensor fixed_point_of;  ///< [starts] int64, those given first: the index of the fixed point; -1 if not converged
  int64_t not_converged = 0;  ///< starts that no fixed point was found from within update_steps_cap

  int64_t size() const { return states.size(0); }
};

/// Finds the fixed points that updates from the starts end at, in float64, and says what they are.
///
///     auto found = hopfield::theory::find_fixed_points(patterns, 8.0, FixedPointOptions().starts(patterns));
///     found.kinds[0];                          // FixedPointKind::single_pattern, if beta is large enough
///
/// Fixed points that repel all starts but themselves are not found. Memory is for a number of starts times N that is
/// bounded, whatever their number.
///
/// Source: Ramsauer et al. 2021, theorem 2, and appendix A.1 for the kinds of fixed points.
///
/// @param patterns  X [N, d], floating-point and finite; N at least 1
/// @param beta      inverse temperature, positive and finite
/// @throws c10::Error if an argument is not as said, or if there are no starts.
FixedPoints find_fixed_points(const at::Tensor& patterns, double beta, const FixedPointOptions& options = {});

/// The spectral norm of the Jacobian of one update
///
///     J(xi) = beta X^T (diag(p) - p p^T) X,    p = softmax(beta X xi)
///
/// which is symmetric and positive semi-definite: its largest eigenvalue, by power iteration of a few vectors at once,
/// without forming J. The relative error is about 1e-9 or less.
///
/// Source: Ramsauer et al. 2021, appendix A.1, the Jacobian of the update rule.
///
/// @param patterns  X [N, d], floating-point and finite
/// @param beta      positive and finite
/// @param states    xi [F, d], floating-point and finite
/// @return          [F] float64
/// @throws c10::Error if an argument is not as said.
at::Tensor jacobian_norm(const at::Tensor& patterns, double beta, const at::Tensor& states);

/// How many patterns a state retrieves: the k90 of softmax(beta X xi), the fewest weights that sum to 0.9. Holds a tile
/// of the products of states and patterns at a time.
///
/// @param patterns  X [N, d], floating-point and finite
/// @param beta      positive and finite
/// @param states    xi [Q, d], floating-point and finite
/// @return          [Q] int64
/// @throws c10::Error if an argument is not as said.
at::Tensor k90_of(const at::Tensor& patterns, double beta, const at::Tensor& states);

/// A beta with which the median over the patterns x_i of the k90 of softmax(beta X x_i), at the patterns themselves, is
/// `wanted_k90`. The median falls as beta rises, so that bisection finds the betas between which it has a value.
/// Returned is about their geometric mean; for a value that all large betas give, as they do 1 if no patterns are
/// equal, twice the least of them. The median of an even number is the lower one of the two in the middle. Takes some
/// 20 passes over the N x N products of the patterns, of which a tile is held.
///
///     auto beta = hopfield::theory::suggest_beta(patterns, 1);    // half of the patterns are retrieved alone
///
/// Source: Ramsauer et al. 2021, appendix A.5, where heads are told apart by their k90.
///
/// @param patterns    X [N, d], floating-point and finite; N at least 2
/// @param wanted_k90  1 to 0.9 N
/// @throws c10::Error if an argument is not as said, or if no beta gives the median, as with equal patterns.
double suggest_beta(const at::Tensor& patterns, int64_t wanted_k90);

}  // namespace hopfield::theory

#undef HOPFIELD_OPTION
