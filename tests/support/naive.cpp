#include "support/naive.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace hopfield::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Scores, their softmax and their log sum exp for one query.
struct Row {
  std::vector<double> weights;
  double logsumexp = -kInfinity;
  bool dead = true;
};

}  // namespace

NaiveResult naive_retrieve(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& projection,
                           const at::Tensor& beta, const at::Tensor& bias, const at::Tensor& steps) {
  const auto N = state.size(0), H = state.size(1), L = state.size(2), S = stored.size(2), d = state.size(3);
  const auto width = projection.size(3);
  NaiveResult r{at::zeros({N, H, L, width}, at::kDouble), state.clone().contiguous(), at::zeros({N, H, L}, at::kDouble),
                at::zeros({N, H, L}, at::kDouble), at::zeros({N, H, L, S}, at::kDouble)};
  const auto k = stored.accessor<double, 4>(), v = projection.accessor<double, 4>(), c = bias.accessor<double, 4>();
  auto xi = r.state.accessor<double, 4>(), z = r.output.accessor<double, 4>(), p = r.association.accessor<double, 4>();
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t h = 0; h < H; ++h) {
      const double b = beta.accessor<double, 1>()[h];
      for (int64_t l = 0; l < L; ++l) {
        const auto associate = [&] {
          Row row;
          row.weights.resize(S);
          double largest = -kInfinity, sum = 0;
          for (int64_t s = 0; s < S; ++s) {
            double dot = 0;
            for (int64_t i = 0; i < d; ++i) dot += xi[n][h][l][i] * k[n][h][s][i];
            row.weights[s] = c[n][h][l][s] == -kInfinity ? -kInfinity : b * dot + c[n][h][l][s];
            largest = std::max(largest, row.weights[s]);
          }
          row.dead = largest == -kInfinity;
          for (auto& weight : row.weights) sum += weight = row.dead ? 0 : std::exp(weight - largest);
          for (auto& weight : row.weights) weight = row.dead ? 0 : weight / sum;
          if (!row.dead) row.logsumexp = largest + std::log(sum);
          return row;
        };
        for (int64_t t = 0; t < steps.accessor<int64_t, 3>()[n][h][l]; ++t) {
          const auto row = associate();
          if (row.dead) break;
          for (int64_t i = 0; i < d; ++i) {
            xi[n][h][l][i] = 0;
            for (int64_t s = 0; s < S; ++s) xi[n][h][l][i] += row.weights[s] * k[n][h][s][i];
          }
        }
        const auto row = associate();
        double squared = 0, live = 0, largest_norm = 0;
        for (int64_t i = 0; i < d; ++i) squared += xi[n][h][l][i] * xi[n][h][l][i];
        for (int64_t s = 0; s < S; ++s) {
          p[n][h][l][s] = row.weights[s];
          for (int64_t i = 0; i < width; ++i) z[n][h][l][i] += row.weights[s] * v[n][h][s][i];
          if (c[n][h][l][s] == -kInfinity) continue;
          double norm = 0;
          for (int64_t i = 0; i < d; ++i) norm += k[n][h][s][i] * k[n][h][s][i];
          largest_norm = std::max(largest_norm, norm);
          ++live;
        }
        r.logsumexp.accessor<double, 3>()[n][h][l] = row.logsumexp;
        r.energy.accessor<double, 3>()[n][h][l] =
            row.dead ? kInfinity : (std::log(live) - row.logsumexp) / b + (squared + largest_norm) / 2;
      }
    }
  }
  return r;
}

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) return kInfinity;
  if (a.numel() == 0) return 0;
  const auto x = a.detach().to(at::kCPU, at::kDouble), y = b.detach().to(at::kCPU, at::kDouble);
  const auto same = x.eq(y).logical_or(x.isnan().logical_and(y.isnan()));
  const auto largest = (x - y).abs().masked_fill(same, 0.0).max().item<double>();
  return std::isnan(largest) ? kInfinity : largest;
}

bool bitwise_equal(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes() || a.dtype() != b.dtype()) return false;
  const auto x = a.detach().cpu().contiguous(), y = b.detach().cpu().contiguous();
  return x.nbytes() == 0 || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

at::Tensor randn(at::IntArrayRef shape, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kDouble);
}

}  // namespace hopfield::testing
