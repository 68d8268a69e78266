#include "theory/pattern_checks.h"
#include "theory/tiles.h"
#include <hopfield/theory/fixed_points.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

namespace hopfield::theory {
namespace {

// Vectors that are iterated at once. The error shrinks by the ratio of the eigenvalue behind them to the largest, so
// that largest eigenvalues close to each other do no harm.
constexpr int64_t kVectors = 6;
constexpr int64_t kMostIterations = 1000;

/// The products J v of the vectors [F, d, b] with the Jacobians of the weights p [F, N, 1].
at::Tensor products(const at::Tensor& patterns, double beta, const at::Tensor& p, const at::Tensor& vectors) {
  const auto u = at::matmul(patterns, vectors);                     // [F, N, b]
  const auto centred = p * (u - (p * u).sum(1, /*keepdim=*/true));  // (diag(p) - p p^T) u
  return at::matmul(patterns.t(), centred).mul_(beta);              // [F, d, b]
}

/// [F] of states [F, d]
at::Tensor norms_of_tile(const at::Tensor& patterns, double beta, const at::Tensor& states, double rounding) {
  const auto p = at::mm(states, patterns.t()).mul_(beta).softmax(-1).unsqueeze(-1);  // [F, N, 1]
  const auto depth = patterns.size(1);
  const auto start = at::randn({depth, std::min(kVectors, depth)}, at::detail::createCPUGenerator(1), at::kDouble);
  auto vectors = std::get<0>(at::linalg_qr(start.to(patterns.device()))).expand({states.size(0), -1, -1});
  at::Tensor largest;
  for (int64_t i = 0; i < kMostIterations; ++i) {
    const auto next = products(patterns, beta, p, vectors);
    const auto [values, ritz] = at::linalg_eigh(at::matmul(vectors.mT(), next));  // [F, b], ascending
    largest = values.select(-1, -1);                                              // [F]
    // J y - largest y of the vector y that belongs to the largest value.
    const auto weights = ritz.narrow(-1, ritz.size(-1) - 1, 1);  // [F, b, 1]
    const auto rest = at::matmul(next, weights) - at::matmul(vectors, weights) * largest.view({-1, 1, 1});
    if ((rest.norm(2, 1).squeeze(-1) <= 1e-9 * largest + rounding).all().item<bool>()) break;
    vectors = std::get<0>(at::linalg_qr(next));
  }
  return largest.clamp_min(0.0);
}

}  // namespace

at::Tensor jacobian_norm(const at::Tensor& patterns, double beta, const at::Tensor& states) {
  constexpr const char* function = "hopfield::theory::jacobian_norm";
  const at::NoGradGuard no_grad;
  const auto stored = checked_rows(function, "patterns", patterns, 1);
  check_beta(function, beta);
  const auto rows = checked_states(function, "states", states, stored);
  // Where the scores' rounding makes the products inexact, no more digits are to be had.
  const auto rounding = 1e-14 * beta * stored.pow(2).sum(-1).max().item<double>();
  auto norms = at::empty({rows.size(0)}, rows.options());
  for_row_tiles(rows.size(0), kVectors * stored.size(0), [&](int64_t first, int64_t length) {
    norms.narrow(0, first, length).copy_(norms_of_tile(stored, beta, rows.narrow(0, first, length), rounding));
  });
  return norms;
}

}  // namespace hopfield::theory
