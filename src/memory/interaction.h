#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace hopfield::memory::detail {

/// The function F of a dense associative memory, whose energy falls with sum_i F(x_i.s), in the form that updates need:
/// tables over overlaps m = x_i.s, which are integers from -d to d.
///
/// A neuron j decides by the sign of sum_i x_ij D(r_i) with D(r) = F(r + 1) - F(r - 1), where r_i = m_i - x_ij s_j is
/// the overlap of the other neurons. This is how much sum_i F is larger with s_j = 1 than with s_j = -1, as F(r + x) -
/// F(r - x) is x D(r) for x = -1 and x = 1. Patterns with x_ij = s_j contribute s_j D(m_i - 1) to it, the others -s_j
/// D(m_i + 1), so that it is also sum_i x_ij e_i + s_j sum_i c_i with the half sums e_i = (D(m_i - 1) + D(m_i + 1)) / 2
/// and the half differences c_i = (D(m_i - 1) - D(m_i + 1)) / 2: products of matrices, for all neurons and queries.
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
    double constant = 0.0, factor = 0.0;
  };
  std::vector<Threshold> thresholds_of(const std::vector<double>& thresholds) const;

  at::Tensor differences;        ///< F(r + 1) - F(r - 1) [2 d + 3] float64 on the CPU
  at::Tensor half_sums;          ///< (D(m - 1) + D(m + 1)) / 2 of these differences D, likewise
  at::Tensor half_differences;   ///< (D(m - 1) - D(m + 1)) / 2, likewise
  at::Tensor values;             ///< F(m), likewise, but in another unit
  int64_t zero = 0;              ///< where the tables have the overlap 0, if the largest overlap is 0
  bool follows_largest = false;  ///< F is exponential
  double field_unit = 1.0;       ///< polynomials: local field over sum of differences
  double energy_unit = 1.0;      ///< polynomials: energy over sum of values
};

}  // namespace hopfield::memory::detail
