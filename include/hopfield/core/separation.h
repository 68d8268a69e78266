#pragma once

#include <string>

namespace hopfield {

/// How the scores t of a state become the weights y of its association, in updates and read-out alike.
///
///     hopfield::retrieve(state, stored, RetrieveOptions().separation(Separation::sparsemax()));
///
/// Each y is the gradient of a convex function Omega* of the scores. With its conjugate Omega, y is the one that makes
/// <y, t> - Omega(y) largest, and Omega*(t) is how large that is.
///
///                    weights y_i                                    Omega*(t)
///     softmax        exp(t_i) / sum_j exp(t_j)                      log sum_j exp(t_j)
///     softmax1       exp(t_i) / (1 + sum_j exp(t_j))                log(1 + sum_j exp(t_j))
///     entmax(alpha)  [(alpha - 1) t_i - tau]_+^(1 / (alpha - 1))    <y, t> + (1 - sum y^alpha) / (alpha (alpha - 1))
///     sparsemax      [t_i - tau]_+, which is entmax(2)              <y, t> + (1 - sum y^2) / 2
///
/// with tau so that the weights sum to 1.
///
/// Weights of entmax and sparsemax may be exactly zero. Where the score of one pattern exceeds all others by at least
/// 1 / (alpha - 1), it gets the weight 1 and the others 0: one update then gives this pattern itself, not only
/// something close to it. As alpha falls to 1, entmax becomes softmax.
///
/// Sources: Ramsauer et al. 2021 (softmax); Martins and Astudillo, "From Softmax to Sparsemax", 2016; Peters et al.,
/// "Sparse Sequence-to-Sequence Models", 2019 (entmax); Santos et al., "Hopfield-Fenchel-Young Networks", 2025,
/// arXiv:2411.08590 (their updates and energies).
class Separation {
 public:
  enum class Kind { softmax, softmax1, sparsemax, entmax };

  static Separation softmax() { return {Kind::softmax, 1.0}; }
  /// A softmax with one more score, which is 0 and belongs to no pattern: a state may attend to nothing.
  static Separation softmax1() { return {Kind::softmax1, 1.0}; }
  static Separation sparsemax() { return {Kind::sparsemax, 2.0}; }
  /// @param alpha  1 < alpha <= 2. Whoever is given another one refuses it.
  static Separation entmax(double alpha) { return {Kind::entmax, alpha}; }

  Kind kind() const { return kind_; }
  double alpha() const { return alpha_; }
  /// Whether it is entmax, under that name or as sparsemax: with weights that may be exactly zero.
  bool is_sparse() const { return kind_ == Kind::sparsemax || kind_ == Kind::entmax; }

 private:
  Separation(Kind kind, double alpha) : kind_(kind), alpha_(alpha) {}
  Kind kind_;
  double alpha_;
};

const char* to_string(Separation::Kind kind);
std::string to_string(const Separation& separation);

}  // namespace hopfield
