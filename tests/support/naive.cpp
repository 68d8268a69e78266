#include "support/naive.h"

#include "support/naive_query.h"
#include "support/naive_separation.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

namespace hopfield::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The conjugate of `count` scores that are 0.
double conjugate_of_zeros(double count, const Separation& separation) {
  return naive_separate(std::vector<double>(static_cast<size_t>(count), 0.0), separation).conjugate;
}

}  // namespace

NaiveResult naive_retrieve(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& projection,
                           const at::Tensor& beta, const at::Tensor& bias, const at::Tensor& steps,
                           const Separation& separation) {
  const auto separate = [&](std::vector<double>& scores) {
    auto separated = naive_separate(scores, separation);
    scores = std::move(separated.weights);
    return separated.conjugate;
  };
  const auto N = state.size(0), H = state.size(1), L = state.size(2), S = stored.size(2), d = state.size(3);
  const auto width = projection.size(3);
  NaiveResult r{at::zeros({N, H, L, width}, at::kDouble), state.clone().contiguous(), at::zeros({N, H, L}, at::kDouble),
                at::zeros({N, H, L}, at::kDouble), at::zeros({N, H, L, S}, at::kDouble)};
  auto x = r.state.accessor<double, 4>(), z = r.output.accessor<double, 4>(), p = r.association.accessor<double, 4>();
  const auto k = stored.accessor<double, 4>(), v = projection.accessor<double, 4>(), c = bias.accessor<double, 4>();
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t h = 0; h < H; ++h) {
      const double b = beta.accessor<double, 1>()[h];
      for (int64_t l = 0; l < L; ++l) {
        std::vector<double> query(static_cast<size_t>(d));
        for (int64_t i = 0; i < d; ++i) query[i] = x[n][h][l][i];
        const auto found = naive_query<double>(
            query, [&](int64_t s, int64_t i) { return k[n][h][s][i]; },
            [&](int64_t s, int64_t i) { return v[n][h][s][i]; }, [&](int64_t s) { return c[n][h][l][s]; }, S, width, b,
            steps.accessor<int64_t, 3>()[n][h][l], separate);
        double squared = 0, live = 0, largest_norm = 0;
        for (int64_t i = 0; i < d; ++i) {
          x[n][h][l][i] = found.state[i];
          squared += found.state[i] * found.state[i];
        }
        for (int64_t i = 0; i < width; ++i) z[n][h][l][i] = found.output[i];
        for (int64_t s = 0; s < S; ++s) {
          p[n][h][l][s] = found.association[s];
          if (c[n][h][l][s] == -kInfinity) continue;
          double norm = 0;
          for (int64_t i = 0; i < d; ++i) norm += k[n][h][s][i] * k[n][h][s][i];
          largest_norm = std::max(largest_norm, norm);
          ++live;
        }
        r.logsumexp.accessor<double, 3>()[n][h][l] = found.logsumexp;
        r.energy.accessor<double, 3>()[n][h][l] =
            found.dead ? kInfinity
                       : (conjugate_of_zeros(live, separation) - found.logsumexp) / b + (squared + largest_norm) / 2;
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

at::Tensor finite_part(const at::Tensor& x) {
  return at::nan_to_num(x.detach().to(at::kCPU, at::kDouble), 0.0, 0.0, 0.0);
}

at::Tensor absolute_errors(const at::Tensor& found, const at::Tensor& reference) {
  if (found.sizes() != reference.sizes())
    return at::full_like(reference, kInfinity, at::dtype(at::kDouble).device(at::kCPU));
  const auto errors = (finite_part(found) - finite_part(reference)).abs();
  const bool same_places = at::isfinite(found).cpu().eq(at::isfinite(reference).cpu()).all().item<bool>();
  return same_places ? errors : at::full_like(errors, kInfinity);
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
