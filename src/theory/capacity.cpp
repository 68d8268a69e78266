#include "theory/pattern_checks.h"
#include <hopfield/theory/capacity.h>

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::theory {
namespace {

constexpr double kPi = 3.14159265358979323846, kE = 2.71828182845904523536;

void expect(bool is_met, const char* what, double got) {
  TORCH_CHECK(is_met, "hopfield::theory: expected ", what, ", got ", got);
}

void check_degree(int degree) { expect(degree >= 2, "a degree of at least 2", degree); }
void check_neurons(double neurons, double least) {
  expect(neurons >= least && std::isfinite(neurons), least < 2 ? "at least 1 neuron" : "at least 2 neurons", neurons);
}

/// 1 * 3 * 5 * .. * (2 n - 3)
double odd_factorial(int degree) {
  double product = 1;
  for (int k = 3; k <= 2 * degree - 3; k += 2) product *= k;
  return product;
}

/// ln F(z) and F'(z) / F(z) of F(z) = 0F1(; d / 2; z^2 / 4), the mean of exp(z u) over a component u of unit vectors in
/// d dimensions. All terms of the series are positive; they are divided by the largest.
struct SphereMean {
  double logarithm, slope;
};

SphereMean sphere_mean(double z, int dimension) {
  const double half = 0.5 * dimension, log_x = 2 * std::log(0.5 * z);
  const auto log_term = [&](int k) {
    return k * log_x - std::lgamma(k + 1.0) - std::lgamma(k + half) + std::lgamma(half);
  };
  int top = 0;
  while (log_term(top + 1) > log_term(top)) ++top;
  const double largest = log_term(top);
  double sum = 0, weighted = 0;
  for (int k = 0; k < 10 * (top + 10); ++k) {
    const double term = std::exp(log_term(k) - largest);
    sum += term;
    weighted += 2 * k * term;
  }
  return {largest + std::log(sum), weighted / sum / z};
}

}  // namespace

double overlap_of_binary_network(double alpha) {
  expect(alpha > 0, "a positive load", alpha);
  // sqrt(2 alpha) = erf(y) / y - 2 / sqrt(pi) exp(-y^2) has its maximum over y near 1.5; the stable root is right of
  // it.
  const auto right_side = [](double y) { return std::erf(y) / y - 2 / std::sqrt(kPi) * std::exp(-y * y); };
  double top = 0.5;
  for (double y = 0.5; y < 4; y += 1e-4) top = right_side(y) > right_side(top) ? y : top;
  const double wanted = std::sqrt(2 * alpha);
  if (wanted > right_side(top)) return 0;
  double low = top, high = std::max(1 / wanted, top) + 1;
  for (int step = 0; step < 100; ++step) {
    const double middle = 0.5 * (low + high);
    (right_side(middle) > wanted ? low : high) = middle;
  }
  return std::erf(low);
}

double capacity_of_binary_network(double neurons) {
  check_neurons(neurons, 1);
  return 0.138 * neurons;
}

double errorless_capacity_of_binary_network(double neurons) {
  check_neurons(neurons, 2);
  return neurons / (4 * std::log(neurons));
}

double bit_error_of_polynomial_memory(int degree, double patterns, double neurons) {
  check_degree(degree);
  check_neurons(neurons, 1);
  expect(patterns > 0, "a positive number of patterns", patterns);
  const double signal_to_noise = std::pow(neurons, degree - 1) / (patterns * odd_factorial(degree));
  return 0.5 * std::erfc(std::sqrt(0.5 * signal_to_noise));
}

double capacity_of_polynomial_memory(int degree, double neurons) {
  check_degree(degree);
  check_neurons(neurons, 1);
  constexpr double kOfHalfAPercent = 0.1507;  // 1 / q^2 for Q(q) = 0.005
  return kOfHalfAPercent * std::pow(neurons, degree - 1) / odd_factorial(degree);
}

double errorless_capacity_of_polynomial_memory(int degree, double neurons) {
  check_degree(degree);
  check_neurons(neurons, 2);
  return std::pow(neurons, degree - 1) / (2 * odd_factorial(degree) * std::log(neurons));
}

double log_capacity_of_exponential_memory(double neurons, double flipped) {
  check_neurons(neurons, 1);
  expect(flipped >= 0 && flipped < 0.5, "a share of inverted neurons from 0 to below 0.5", flipped);
  const double a = 1 - 2 * flipped;
  const double rate = ((1 + a) * std::log(1 + a) + (a < 1 ? (1 - a) * std::log(1 - a) : 0)) / 2;
  return rate / 2 * neurons;
}

double load_of_continuous_memory(double beta, int dimension) {
  check_beta("hopfield::theory", beta);
  expect(dimension >= 2, "at least 2 dimensions", dimension);
  double best = 0;
  for (double m = 0.5; m < 1; m += 1e-4) {
    const auto mean = sphere_mean(beta * dimension * m, dimension);
    if (m <= mean.slope) continue;
    const double load = (beta * dimension * m - mean.logarithm + std::log((1 - m) / (m - mean.slope))) / dimension;
    best = std::max(best, load);
  }
  return best;
}

double load_of_continuous_memory(double beta) {
  check_beta("hopfield::theory", beta);
  const double phi = (std::sqrt(1 + 4 * beta * beta) - 1) / (2 * beta);
  return beta - beta * phi - std::log(1 - phi * phi) / 2;
}

SphereCapacity sphere_capacity(double beta, double factor, int width, double failure) {
  check_beta("hopfield::theory", beta);
  expect(factor > 0 && std::isfinite(factor), "a positive factor K of the norm", factor);
  expect(width >= 2, "at least 2 dimensions", width);
  expect(failure > 0 && failure < 1, "a probability of failure between 0 and 1", failure);
  const double free = width - 1;
  const double a = 2 / free * (1 + std::log(2 * beta * factor * factor * failure * free));
  const double b = 2 * factor * factor * beta / 5;
  SphereCapacity capacity{};
  capacity.c = b / lambert_w0_of_exp(a + std::log(b));
  capacity.required_c = std::pow(2 / std::sqrt(failure), 4 / free);
  capacity.log_patterns = capacity.is_guaranteed() ? std::log(failure) / 2 + free / 4 * std::log(capacity.c)
                                                   : std::numeric_limits<double>::quiet_NaN();
  return capacity;
}

double lambert_w0(double x) {
  if (std::isnan(x) || x < -1 / kE) return std::numeric_limits<double>::quiet_NaN();
  if (x == 0 || std::isinf(x)) return x;
  if (x > 1) return lambert_w0_of_exp(std::log(x));
  // Halley's method, from the series around the branch point or from that around 0.
  const double p = std::sqrt(std::max(0.0, 2 * (kE * x + 1)));
  double w = x < -0.25 ? -1 + p - p * p / 3 + 11.0 / 72 * p * p * p : x / (1 + x);
  for (int step = 0; step < 20; ++step) {
    const double exponential = std::exp(w), error = w * exponential - x;
    if (w <= -1 || error == 0) break;
    const double slope = exponential * (w + 1);
    const double change = error / (slope - (w + 2) * error / (2 * w + 2));
    w -= change;
    if (std::abs(change) <= 1e-17 * std::abs(w)) break;
  }
  return w;
}

double lambert_w0_of_exp(double y) {
  if (y < 0) return lambert_w0(std::exp(y));
  if (std::isnan(y) || std::isinf(y)) return y;
  double w = y > 1 ? y - std::log(y) : 0.5671432904097838 + 0.36 * y;  // W_0(1), and the slope there
  for (int step = 0; step < 20; ++step) {
    const double change = (w + std::log(w) - y) * w / (w + 1);  // Newton's method
    w -= change;
    if (std::abs(change) <= 1e-17 * w) break;
  }
  return w;
}

}  // namespace hopfield::theory
