#pragma once

#include <hopfield/memory/per_neuron.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace hopfield::memory {

/// The Lagrangian L of a layer of n neurons: a function of their states x whose gradient is what the neurons put out.
///
///     auto softmax = memory::Lagrangian::log_sum_exp(2.0);
///     softmax.value(x), softmax.activation(x)    // of x [Q, n]: [Q], [Q, n]
///
/// Where L is convex, its Hessian is positive semi-definite, which is what the energy of a LagrangianNetwork needs to
/// fall. All factories but power() with an odd n give convex functions. All functions are made of operations that
/// autograd differentiates.
///
/// Source: Krotov, Hopfield, "Large associative memory problem in neurobiology and machine learning", ICLR 2021,
/// section 2 and table 1; layer_norm(): Hoover et al., "Energy Transformer", NeurIPS 2023, equation (2).
class Lagrangian {
 public:
  /// x [Q, n] to [Q] or [Q, n].
  using Function = std::function<at::Tensor(const at::Tensor& x)>;
  /// x [Q, n] and y [Q, n] to [Q, n].
  using Product = std::function<at::Tensor(const at::Tensor& x, const at::Tensor& y)>;

  /// L = log(sum_i exp(beta x_i)) / beta, g = softmax(beta x).
  /// @throws c10::Error if beta is not positive and finite.
  static Lagrangian log_sum_exp(double beta = 1.0);
  /// L = sum_i x_i^n / n, g = x^(n-1). Not convex where n is odd and some x_i is negative.
  /// @throws c10::Error if n is below 1.
  static Lagrangian power(int64_t n);
  /// The same with 0 for negative x.
  static Lagrangian rectified_power(int64_t n);
  /// L = sum_i |x_i|, g = sgn(x), which is 0 at 0. Its gradient is 0.
  static Lagrangian absolute_value();
  /// L = |x|, g = x / |x|, which is 0 at 0.
  static Lagrangian spherical_norm();
  /// L = |x|^2 / 2, g = x.
  static Lagrangian quadratic();
  /// L = sum_i log(cosh(gain x_i)) / gain, g = tanh(gain x).
  /// @throws c10::Error if the gain is not positive and finite.
  static Lagrangian log_cosh(double gain = 1.0);
  /// L = n gamma sqrt(var(x) + eps) + delta.x, g = gamma (x - mean(x)) / sqrt(var(x) + eps) + delta, where var is the
  /// mean of the squares (x_i - mean(x))^2.
  /// @throws c10::Error if gamma or eps is not positive and finite, or if delta is not finite.
  static Lagrangian layer_norm(double gamma = 1.0, double eps = 1e-5, const PerNeuron& delta = 0.0);

  /// One of the caller's own. `activation` has to be the gradient of `value`; nothing checks that. The products with
  /// the Hessian come from autograd, through `activation`, where they are not given. A memory with such a Lagrangian
  /// cannot be saved.
  /// @throws c10::Error if one of the first two functions is empty.
  static Lagrangian own(Function value, Function activation, Product hessian_product = {});

  /// L(x) [Q] of x [Q, n].
  /// @throws c10::Error if a function of the caller's has a result of another shape, type or device. The same holds for
  /// the two below.
  at::Tensor value(const at::Tensor& x) const;
  /// g(x) [Q, n], the gradient.
  at::Tensor activation(const at::Tensor& x) const;
  /// H(x) y [Q, n], where H is the Hessian [n, n] of each row.
  at::Tensor hessian_product(const at::Tensor& x, const at::Tensor& y) const;

  /// The name of the factory.
  const std::string& name() const { return name_; }
  /// The numbers that were given to the factory.
  const std::map<std::string, double>& parameters() const { return parameters_; }
  /// The delta of layer_norm(), otherwise 0.
  const PerNeuron& delta() const { return delta_; }
  /// Whether g(g(x)) = g(x), and g(x) is all that the energy depends on: absolute_value(), spherical_norm() and
  /// quadratic().
  bool is_idempotent() const;

 private:
  Lagrangian(std::string name, std::map<std::string, double> parameters, Function value, Function activation,
             Product hessian_product);

  std::string name_;
  std::map<std::string, double> parameters_;
  PerNeuron delta_ = 0.0;
  Function value_;
  Function activation_;
  Product hessian_product_;
};

}  // namespace hopfield::memory
