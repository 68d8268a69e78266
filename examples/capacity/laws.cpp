#include "laws.h"

#include <algorithm>
#include <cmath>

namespace hopfield::capacity {
namespace {

constexpr double kPi = 3.14159265358979323846;

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

double bit_error_of_polynomial_memory(int degree, double patterns, double neurons) {
  const double signal_to_noise = std::pow(neurons, degree - 1) / (patterns * odd_factorial(degree));
  return 0.5 * std::erfc(std::sqrt(0.5 * signal_to_noise));
}

double capacity_of_polynomial_memory(int degree, double neurons) {
  constexpr double kOfHalfAPercent = 0.1507;  // 1 / q^2 for Q(q) = 0.005
  return kOfHalfAPercent * std::pow(neurons, degree - 1) / odd_factorial(degree);
}

double load_of_continuous_memory(double beta, int dimension) {
  double best = 0;
  for (double m = 0.5; m < 1; m += 1e-4) {
    const auto mean = sphere_mean(beta * dimension * m, dimension);
    if (m <= mean.slope) continue;
    const double load = (beta * dimension * m - mean.logarithm + std::log((1 - m) / (m - mean.slope))) / dimension;
    best = std::max(best, load);
  }
  return best;
}

}  // namespace hopfield::capacity
