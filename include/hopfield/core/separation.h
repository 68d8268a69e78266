#pragma once

#include <string>

namespace hopfield {

/// How the scores t of a state become the weights y of its association, in updates and read-out alike.
///
///     hopfield::retrieve(state, stored, RetrieveOptions().separation(Separation::sparsemax()));
///
/// y is the gradient of a convex function Omega* of the scores, the conjugate of a regulariser Omega: y is the point of
/// the simplex with the largest <y, t> - Omega(y), and Omega*(t) is that largest value.
///
/// | separation    | weights y_i                                       | Omega*(t)                               |
/// |---------------|---------------------------------------------------|-----------------------------------------|
/// | softmax       | exp(t_i) / sum_j exp(t_j)                         | log sum_j exp(t_j)                      |
/// | softmax1      | exp(t_i) / (1 + sum_j exp(t_j))                   | log(1 + sum_j exp(t_j))                 |
/// | entmax(alpha) | [(alpha - 1) t_i - tau]_+^(1 / (alpha - 1))       | <y, t> + (1 - sum_j y_j^alpha) / (alpha (alpha
/// - 1)) | | sparsemax     | [t_i - tau]_+, the same as entmax(2)              | the same with alpha = 2 |
///
/// tau is the number for which the weights sum to 1.
///
/// Weights of entmax and sparsemax may be exactly zero. Where the score of one pattern exceeds all others by at least
/// 1 / (alpha - 1), it gets the weight 1 and the others 0: one update then gives this pattern itself, not only
/// something close to it. As alpha falls to 1, entmax becomes softmax.
///
/// Sources: Ramsauer et al. 2021 (softmax); Santos et al., "Hopfield-Fenchel-Young Networks", 2025, and Peters et al.,
/// "Sparse Sequence-to-Sequence Models", 2019 (entmax); Martins and Astudillo, "From Softmax to Sparsemax", 2016.
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
