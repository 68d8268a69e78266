#include "memory/interaction.h"

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield::memory::detail {
namespace {

/// (r + 1)^n - (r - 1)^n for r > 0, times unit^n. As u^n - v^n = (u - v) sum_k u^k v^(n-1-k), nothing cancels out.
double power_difference(double r, int64_t degree, double unit) {
  const auto u = (r + 1) * unit, v = (r - 1) * unit;
  double sum = 1.0, power = 1.0;  // of the degree k: sum_j u^j v^(k-1-j) and v^(k-1)
  for (int64_t k = 1; k < degree; ++k) {
    power *= v;
    sum = sum * u + power;
  }
  return 2 * unit * sum;
}

double power(double x, int64_t degree, bool rectified) {
  return rectified && x < 0 ? 0.0 : std::pow(x, static_cast<double>(degree));
}

/// The first power of two that is not below a number.
double power_of_two(int64_t number) { return std::exp2(std::ceil(std::log2(static_cast<double>(number)))); }

/// (D(m - 1) + sign D(m + 1)) / 2 for all overlaps m but the outermost, which no state has.
at::Tensor halves(const at::Tensor& differences, double sign) {
  auto result = at::zeros_like(differences);
  const auto inner = differences.size(0) - 2;
  result.narrow(0, 1, inner).copy_(0.5 * (differences.narrow(0, 0, inner) + sign * differences.narrow(0, 2, inner)));
  return result;
}

Interaction with_halves(Interaction interaction) {
  interaction.half_sums = halves(interaction.differences, 1.0);
  interaction.half_differences = halves(interaction.differences, -1.0);
  return interaction;
}

}  // namespace

Interaction Interaction::polynomial(int64_t neurons, int64_t degree, bool rectified) {
  const auto d = static_cast<double>(neurons), n = static_cast<double>(degree);
  // Powers of integers, in a unit that is a power of two, and sums of them are exact as long as float64 has the digits.
  const auto unit = 1.0 / power_of_two(neurons);
  Interaction result;
  result.zero = neurons + 1;
  result.differences = at::empty({2 * neurons + 3}, at::kDouble);
  result.values = at::empty({2 * neurons + 3}, at::kDouble);
  auto* const differences = result.differences.mutable_data_ptr<double>() + result.zero;
  auto* const values = result.values.mutable_data_ptr<double>() + result.zero;
  for (int64_t r = -(neurons + 1); r <= neurons + 1; ++r) {
    const auto overlap = static_cast<double>(r);
    values[r] = power(overlap / d, degree, rectified);
    if (r == 0) {
      differences[r] = power(unit, degree, rectified) - power(-unit, degree, rectified);
    } else {
      const double sign = r > 0 ? 1.0 : rectified ? 0.0 : degree % 2 == 0 ? -1.0 : 1.0;
      differences[r] = sign * power_difference(std::abs(overlap), degree, unit);
    }
  }
  result.field_unit = d / (2 * n) * std::pow(1.0 / (unit * d), n);
  result.energy_unit = -d / n;
  return with_halves(result);
}

Interaction Interaction::exponential(int64_t neurons) {
  // Differences of r are exp(r - largest - 1), without a factor 2 sinh(1); values of m are exp(m - largest).
  Interaction result;
  result.follows_largest = true;
  result.zero = 2 * neurons + 1;
  const auto entries = at::arange(2 * neurons + 3, at::kDouble);
  result.differences = (entries - static_cast<double>(result.zero + 1)).exp();
  result.values = (entries - static_cast<double>(result.zero)).exp();
  return with_halves(result);
}

double Interaction::energy_of(double sum, double largest) const {
  return follows_largest ? -(largest + std::log(sum)) : energy_unit * sum;
}

at::Tensor Interaction::energy_of(const at::Tensor& sum, const at::Tensor& largest) const {
  return follows_largest ? -(largest + sum.log()) : energy_unit * sum;
}

std::vector<Interaction::Threshold> Interaction::thresholds_of(const std::vector<double>& thresholds) const {
  std::vector<Threshold> result;
  for (const auto threshold : thresholds) {
    // With the sums P and M of exp(r_i) over the patterns with x_ij = 1 and -1, the local field is
    // h = log((e P + M / e) / (P / e + e M)) / 2, so that tanh h = tanh(1) (P - M) / (P + M).
    if (follows_largest) {
      result.push_back({0.0, std::tanh(threshold) / std::tanh(1.0)});
    } else {
      result.push_back({threshold / field_unit, 0.0});
    }
  }
  return result;
}

}  // namespace hopfield::memory::detail
