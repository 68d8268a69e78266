#include <hopfield/memory/continuous.h>
#include <hopfield/theory/separation.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::theory {
namespace {

constexpr int64_t kCompared = 3;  // besides the pattern itself
constexpr int64_t kTile = 4096;

void check_set(int64_t count, double largest_norm) {
  TORCH_CHECK(count >= 2, "hopfield::theory: expected at least 2 patterns, got ", count);
  TORCH_CHECK(largest_norm > 0 && std::isfinite(largest_norm),
              "hopfield::theory: expected patterns with a positive and finite largest norm, got ", largest_norm);
}

void check_beta(double beta) {
  TORCH_CHECK(beta > 0 && std::isfinite(beta), "hopfield::theory: expected a positive and finite beta, got ", beta);
}

}  // namespace

PatternSeparation pattern_separation(const at::Tensor& patterns) {
  TORCH_CHECK(patterns.dim() == 2 && patterns.size(0) >= 2,
              "hopfield::theory: expected at least 2 patterns [N, d], got a tensor of the shape ", patterns.sizes());
  const at::NoGradGuard no_grad;
  const memory::ContinuousMemory stored(patterns.detach());  // checks the numbers
  const auto count = patterns.size(0), compared = std::min(count, kCompared + 1);
  PatternSeparation separation;
  separation.delta = at::empty({count}, patterns.options().dtype(at::kDouble));
  separation.nearest = at::empty({count}, patterns.options().dtype(at::kLong));
  for (int64_t first = 0; first < count; first += kTile) {
    const auto length = std::min(kTile, count - first);
    const auto rows = patterns.detach().narrow(0, first, length);
    const auto others = stored.best_matches(rows, compared).indices;  // [length, compared], maybe with the row itself
    const auto own = at::arange(first, first + length, others.options());
    const auto exact = rows.to(at::kDouble);
    auto delta = separation.delta.narrow(0, first, length), nearest = separation.nearest.narrow(0, first, length);
    delta.fill_(std::numeric_limits<double>::infinity());
    nearest.zero_();
    for (int64_t k = 0; k < compared; ++k) {
      const auto other = others.select(1, k);
      const auto difference = exact - patterns.detach().index_select(0, other).to(at::kDouble);
      const auto value =
          (exact * difference).sum(-1).masked_fill(other == own, std::numeric_limits<double>::infinity());
      const auto is_less = value < delta;
      nearest.copy_(at::where(is_less, other, nearest));
      delta.copy_(at::where(is_less, value, delta));
    }
  }
  separation.largest_norm = patterns.detach().to(at::kDouble).norm(2, {1}).max().item<double>();
  return separation;
}

double required_separation(int64_t count, double beta, double largest_norm) {
  check_set(count, largest_norm);
  check_beta(beta);
  const auto n = static_cast<double>(count);
  return 2 / (beta * n) + std::log(2 * (n - 1) * n * beta * largest_norm * largest_norm) / beta;
}

double sphere_radius(int64_t count, double beta, double largest_norm) {
  check_set(count, largest_norm);
  check_beta(beta);
  return 1 / (beta * static_cast<double>(count) * largest_norm);
}

double separating_beta(double delta, int64_t count, double largest_norm) {
  check_set(count, largest_norm);
  TORCH_CHECK(!std::isnan(delta), "hopfield::theory: expected a number as separation, got ", delta);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (delta <= 0) return kInfinity;
  // What is required, (c + ln(a beta)) / beta, rises up to the beta of this peak and then falls towards 0.
  const auto n = static_cast<double>(count);
  const double a = 2 * (n - 1) * n * largest_norm * largest_norm, c = 2 / n;
  const double peak = std::exp(1 - c) / a;
  const auto is_met = [&](double beta) { return (c + std::log(a * beta)) / beta <= delta; };
  if (is_met(peak)) return 0;
  double low = peak, high = peak;
  while (!is_met(high)) {
    low = high;
    high *= 2;
    if (std::isinf(high)) return kInfinity;
  }
  while (high - low > 1e-15 * high) {
    const auto middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) break;
    (is_met(middle) ? high : low) = middle;
  }
  return high;
}

at::Tensor separating_betas(const PatternSeparation& separation) {
  const auto delta = separation.delta.cpu().contiguous();
  auto betas = at::empty_like(delta);
  for (int64_t i = 0; i < delta.numel(); ++i) {
    betas.data_ptr<double>()[i] =
        separating_beta(delta.data_ptr<double>()[i], separation.count(), separation.largest_norm);
  }
  return betas.to(separation.delta.device());
}

}  // namespace hopfield::theory
