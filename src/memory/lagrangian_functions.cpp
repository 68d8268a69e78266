#include "memory/per_neuron_checks.h"
#include <hopfield/memory/lagrangian_functions.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/autograd.h>

#include <cmath>
#include <utility>

namespace hopfield::memory {
namespace {

void check_positive(const char* factory, const char* name, double value) {
  TORCH_CHECK(value > 0 && std::isfinite(value), "hopfield::memory::Lagrangian::", factory, ": expected ", name,
              " to be positive and finite, got ", value);
}

void check_degree(const char* factory, int64_t n) {
  TORCH_CHECK(n >= 1, "hopfield::memory::Lagrangian::", factory, ": expected n to be at least 1, got ", n);
}

void check_result(const std::string& name, const char* function, const at::Tensor& result, const at::Tensor& x,
                  at::IntArrayRef sizes) {
  TORCH_CHECK(result.defined(), "hopfield::memory::Lagrangian: expected the ", function, " of ", name, " to be ", sizes,
              " for x ", x.sizes(), ", got an undefined tensor");
  TORCH_CHECK(result.sizes() == sizes && result.scalar_type() == x.scalar_type() && result.device() == x.device(),
              "hopfield::memory::Lagrangian: expected the ", function, " of ", name, " to be ", sizes, " of type ",
              x.scalar_type(), " on ", x.device(), " for x ", x.sizes(), ", got ", result.sizes(), " of type ",
              result.scalar_type(), " on ", result.device());
}

/// a.b of each row. [Q, 1]
at::Tensor row_dot(const at::Tensor& a, const at::Tensor& b) { return (a * b).sum(-1, /*keepdim=*/true); }

/// The norms of rows [Q, 1], with 1 in the place of 0.
at::Tensor divisors(const at::Tensor& x) {
  const auto norms = at::linalg_vector_norm(x, 2, {-1}, /*keepdim=*/true);
  return at::where(norms > 0, norms, 1.0);
}

at::Tensor centred(const at::Tensor& x) { return x - x.mean(-1, /*keepdim=*/true); }

/// sqrt(var(x) + eps) of each row. [Q, 1]
at::Tensor deviation(const at::Tensor& x, double eps) {
  return (centred(x).pow(2).mean(-1, /*keepdim=*/true) + eps).sqrt();
}

}  // namespace

Lagrangian::Lagrangian(std::string name, std::map<std::string, double> parameters, Function value, Function activation,
                       Product hessian_product)
    : name_(std::move(name)),
      parameters_(std::move(parameters)),
      value_(std::move(value)),
      activation_(std::move(activation)),
      hessian_product_(std::move(hessian_product)) {}

Lagrangian Lagrangian::log_sum_exp(double beta) {
  check_positive("log_sum_exp", "beta", beta);
  return {"log_sum_exp",
          {{"beta", beta}},
          [=](const at::Tensor& x) { return (beta * x).logsumexp(-1) / beta; },
          [=](const at::Tensor& x) { return (beta * x).softmax(-1); },
          [=](const at::Tensor& x, const at::Tensor& y) {
            const auto weights = (beta * x).softmax(-1);
            return beta * weights * (y - row_dot(weights, y));
          }};
}

Lagrangian Lagrangian::power(int64_t n) {
  check_degree("power", n);
  return {"power",
          {{"n", static_cast<double>(n)}},
          [=](const at::Tensor& x) { return x.pow(n).sum(-1) / n; },
          [=](const at::Tensor& x) { return x.pow(n - 1); },
          [=](const at::Tensor& x, const at::Tensor& y) {
            return n == 1 ? at::zeros_like(y) : (n - 1) * x.pow(n - 2) * y;
          }};
}

Lagrangian Lagrangian::rectified_power(int64_t n) {
  check_degree("rectified_power", n);
  // 0^0 is 1, which is not what the power 0 of a negative number has to give.
  const auto rectified = [](const at::Tensor& x, int64_t exponent) {
    return exponent == 0 ? x.gt(0).to(x.scalar_type()) : x.relu().pow(exponent);
  };
  return {"rectified_power",
          {{"n", static_cast<double>(n)}},
          [=](const at::Tensor& x) { return rectified(x, n).sum(-1) / n; },
          [=](const at::Tensor& x) { return rectified(x, n - 1); },
          [=](const at::Tensor& x, const at::Tensor& y) {
            return n == 1 ? at::zeros_like(y) : (n - 1) * rectified(x, n - 2) * y;
          }};
}

Lagrangian Lagrangian::absolute_value() {
  return {"absolute_value",
          {},
          [](const at::Tensor& x) { return x.abs().sum(-1); },
          [](const at::Tensor& x) { return x.sign(); },
          [](const at::Tensor&, const at::Tensor& y) { return at::zeros_like(y); }};
}

Lagrangian Lagrangian::spherical_norm() {
  return {"spherical_norm",
          {},
          [](const at::Tensor& x) { return at::linalg_vector_norm(x, 2, {-1}); },
          [](const at::Tensor& x) { return x / divisors(x); },
          [](const at::Tensor& x, const at::Tensor& y) {
            const auto norms = divisors(x);
            const auto direction = x / norms;
            return (y - direction * row_dot(direction, y)) / norms;
          }};
}

Lagrangian Lagrangian::quadratic() {
  return {"quadratic",
          {},
          [](const at::Tensor& x) { return x.pow(2).sum(-1) / 2; },
          [](const at::Tensor& x) { return x; },
          [](const at::Tensor&, const at::Tensor& y) { return y; }};
}

Lagrangian Lagrangian::log_cosh(double gain) {
  check_positive("log_cosh", "gain", gain);
  return {"log_cosh",
          {{"gain", gain}},
          [=](const at::Tensor& x) {
            const auto size = (gain * x).abs();  // log cosh without overflow
            return (size + (-2 * size).exp().log1p() - std::log(2.0)).sum(-1) / gain;
          },
          [=](const at::Tensor& x) { return (gain * x).tanh(); },
          [=](const at::Tensor& x, const at::Tensor& y) { return gain * (1 - (gain * x).tanh().pow(2)) * y; }};
}

Lagrangian Lagrangian::layer_norm(double gamma, double eps, const PerNeuron& delta) {
  check_positive("layer_norm", "gamma", gamma);
  check_positive("layer_norm", "eps", eps);
  const std::string prefix = "hopfield::memory::Lagrangian::layer_norm: ";
  detail::check_per_neuron(delta, "delta", /*is_positive=*/false, prefix);
  const auto offset = [=](const at::Tensor& x) {
    detail::check_width(delta, "delta", x.size(-1), prefix);
    return delta.value().to(x.device(), x.scalar_type());
  };
  Lagrangian lagrangian{"layer_norm",
                        {{"gamma", gamma}, {"eps", eps}},
                        [=](const at::Tensor& x) {
                          const auto width = static_cast<double>(x.size(-1));
                          return width * gamma * deviation(x, eps).squeeze(-1) + (offset(x) * x).sum(-1);
                        },
                        [=](const at::Tensor& x) { return gamma * centred(x) / deviation(x, eps) + offset(x); },
                        [=](const at::Tensor& x, const at::Tensor& y) {
                          const auto width = static_cast<double>(x.size(-1));
                          const auto unit = centred(x) / deviation(x, eps);
                          return gamma * (centred(y) - unit * row_dot(unit, y) / width) / deviation(x, eps);
                        }};
  lagrangian.delta_ = delta;
  return lagrangian;
}

Lagrangian Lagrangian::own(Function value, Function activation, Product hessian_product) {
  TORCH_CHECK(value && activation,
              "hopfield::memory::Lagrangian::own: expected a value and an activation, got an empty function");
  if (!hessian_product) {
    hessian_product = [activation](const at::Tensor& x, const at::Tensor& y) {
      const at::AutoGradMode with_gradient(true);
      const auto variable = x.detach().requires_grad_();
      const auto output = activation(variable);
      check_result("own", "activation", output, x, x.sizes());
      if (!output.requires_grad()) return at::zeros_like(y);
      const auto product =
          torch::autograd::grad({output}, {variable}, {y.detach()}, std::nullopt, false, /*allow_unused=*/true)[0];
      return product.defined() ? product.detach() : at::zeros_like(y);
    };
  }
  return {"own", {}, std::move(value), std::move(activation), std::move(hessian_product)};
}

at::Tensor Lagrangian::value(const at::Tensor& x) const {
  auto result = value_(x);
  check_result(name_, "value", result, x, x.sizes().slice(0, x.dim() - 1));
  return result;
}

at::Tensor Lagrangian::activation(const at::Tensor& x) const {
  auto result = activation_(x);
  check_result(name_, "activation", result, x, x.sizes());
  return result;
}

at::Tensor Lagrangian::hessian_product(const at::Tensor& x, const at::Tensor& y) const {
  auto result = hessian_product_(x, y);
  check_result(name_, "hessian_product", result, x, x.sizes());
  return result;
}

bool Lagrangian::is_idempotent() const {
  return name_ == "absolute_value" || name_ == "spherical_norm" || name_ == "quadratic";
}

}  // namespace hopfield::memory
