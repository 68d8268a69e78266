#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace hopfield::memory::detail {

/// The function F of a dense associative memory, whose energy falls with sum_i F(x_i.s), in the form that updates need:
/// tables over overlaps m = x_i.s, which are integers from -d to d.
///
/// A neuron j decides by sum_i x_ij (F(r_i + 1) - F(r_i - 1)), where r_i = x_i.s - x_ij s_j is the overlap of the other
/// neurons. This is how much sum_i F is larger with s_j = 1 than with s_j = -1, as F(r + x) - F(r - x) is
/// x (F(r + 1) - F(r - 1)) for x = -1 and x = 1.
struct Interaction {
  /// F(x) = x^n, or 0 where x is negative and F is rectified. The energy is -d/n sum_i F(x_i.s / d).
  static Interaction polynomial(int64_t neurons, int64_t degree, bool rectified);
  /// F(x) = exp(x), in a unit that follows the largest overlap of a state, so that it does not overflow. The energy is
  /// -log sum_i exp(x_i.s).
  static Interaction exponential(int64_t neurons);

  /// Where the tables have the overlap 0. `largest` is the largest overlap of the state, a number or a tensor.
  template <typename Largest>
  Largest zero_of(const Largest& largest) const {
    return follows_largest ? zero - largest : 0 * largest + zero;
  }

  /// The energy of a state with the sum of its overlaps' values and with their largest, numbers or tensors [Q].
  double energy_of(double sum, double largest) const;
  at::Tensor energy_of(const at::Tensor& sum, const at::Tensor& largest) const;

  /// A neuron takes the value 1 if its sum of differences exceeds `constant` + `factor` times the sum of the
  /// differences without the x_ij, as its local field exceeds the threshold then.
  struct Threshold {
    double constant, factor;
  };
  std::vector<Threshold> thresholds_of(const std::vector<double>& thresholds) const;

  at::Tensor differences;        ///< F(r + 1) - F(r - 1) [2 d + 3] float64 on the CPU
  at::Tensor values;             ///< F(m) [2 d + 3] float64 on the CPU, in another unit
  int64_t zero = 0;              ///< where the tables have the overlap 0, if the largest overlap is 0
  bool follows_largest = false;  ///< F is exponential
  double field_unit = 1.0;       ///< polynomials: local field over sum of differences
  double energy_unit = 1.0;      ///< polynomials: energy over sum of values
};

}  // namespace hopfield::memory::detail
