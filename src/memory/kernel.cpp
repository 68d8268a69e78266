#include "memory/best_rows.h"
#include "memory/file.h"
#include <hopfield/memory/kernel.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::memory {
namespace {

// Distances are held for a tile of states and patterns.
constexpr int64_t kTilePatterns = 8192;
constexpr int64_t kTileStates = 256;

/// |x - p|^2 [m, n] of states [m, d] and patterns [n, d]. It comes from one product, and is computed again from the
/// difference where the product's rounding could put it on the wrong side of `radius`.
at::Tensor squared_distances(const at::Tensor& states, const at::Tensor& patterns, double radius) {
  const auto sums = states.pow(2).sum(-1, /*keepdim=*/true) + patterns.pow(2).sum(-1);
  auto distances = at::addmm(sums, states, patterns.t(), 1, -2).clamp_min_(0.0);
  const auto epsilon = states.scalar_type() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                           : double{std::numeric_limits<float>::epsilon()};
  const auto rounding = sums.mul(epsilon * static_cast<double>(states.size(1)));
  const auto unsure = ((distances - radius).abs_() <= rounding).nonzero();  // [u, 2]
  if (unsure.size(0) > 0) {
    const auto rows = unsure.select(1, 0), columns = unsure.select(1, 1);
    constexpr int64_t kNumbers = int64_t{1} << 22;
    const auto step = std::max<int64_t>(1, kNumbers / states.size(1));
    for (int64_t first = 0; first < unsure.size(0); first += step) {
      const auto length = std::min(step, unsure.size(0) - first);
      const auto row = rows.narrow(0, first, length), column = columns.narrow(0, first, length);
      distances.index_put_({row, column},
                           (states.index_select(0, row) - patterns.index_select(0, column)).pow_(2).sum(-1));
    }
  }
  return distances;
}

}  // namespace

KernelMemory::KernelMemory(const KernelOptions& options) : settings_(options.settings()) {
  TORCH_CHECK(!settings_.beta || (*settings_.beta > 0 && std::isfinite(*settings_.beta)), prefix(),
              "expected beta to be positive and finite, got ", *settings_.beta);
  TORCH_CHECK(settings_.epsilon >= 0 && std::isfinite(settings_.epsilon), prefix(),
              "expected epsilon to be 0 or positive, and finite, got ", settings_.epsilon);
}

KernelMemory::KernelMemory(const at::Tensor& patterns, const KernelOptions& options) : KernelMemory(options) {
  adopt(patterns);
}

double KernelMemory::beta() const {
  return settings_.beta ? *settings_.beta : 4.0 / static_cast<double>(patterns().size(1));
}

KernelMemory::Neighbours KernelMemory::neighbours(const at::Tensor& states) const {
  const auto stored = patterns();
  const auto radius = 2.0 / beta();
  Neighbours all{at::zeros({states.size(0)}, states.options()), at::zeros_like(states),
                 at::zeros({states.size(0)}, states.options())};
  for (int64_t row = 0; row < states.size(0); row += kTileStates) {
    const auto rows = std::min(kTileStates, states.size(0) - row);
    const auto tile = states.narrow(0, row, rows);
    for (int64_t first = 0; first < stored.size(0); first += kTilePatterns) {
      const auto some = stored.narrow(0, first, std::min(kTilePatterns, stored.size(0) - first));
      const auto distances = squared_distances(tile, some, radius);
      const auto acts = distances < radius;
      const auto selection = acts.to(states.scalar_type());
      all.count.narrow(0, row, rows).add_(selection.sum(-1));
      all.sum.narrow(0, row, rows).addmm_(selection, some);
      all.kernels.narrow(0, row, rows).add_((1.0 - distances / radius).mul_(selection).sum(-1));
    }
  }
  return all;
}

Recall KernelMemory::recall(const at::Tensor& queries, const RecallSettings& settings) const {
  const auto eps = settings.update_steps_eps.value_or(0.0);
  const auto steps_max = settings.update_steps_max < 0 ? settings.update_steps_cap : settings.update_steps_max;
  Recall recall;
  recall.state = queries.clone();
  recall.steps = at::zeros({queries.size(0)}, queries.options().dtype(at::kLong));
  recall.residual = at::full({queries.size(0)}, std::numeric_limits<double>::quiet_NaN(), queries.options());
  auto active = at::arange(queries.size(0), recall.steps.options());  // [Q']: rows that are still updated
  for (int64_t step = 0; step < steps_max && active.numel() > 0; ++step) {
    auto before = recall.state.index_select(0, active);
    auto near = neighbours(before);
    if (step == 0) {
      const auto acts = near.count > 0;
      recall.matched = acts;
      active = active.index({acts});
      before = before.index({acts}), near.count = near.count.index({acts}), near.sum = near.sum.index({acts});
    }
    const auto next = near.sum / near.count.unsqueeze(-1);
    const auto residual = at::linalg_vector_norm(next - before, 2, {-1});
    recall.state.index_copy_(0, active, next);
    recall.residual.index_copy_(0, active, residual);
    recall.steps.index_add_(0, active, at::ones_like(active));
    active = active.index({residual > eps});
  }
  recall.converged = recall.residual <= eps;
  recall.period = recall.converged.to(at::kLong);
  return recall;
}

at::Tensor KernelMemory::energy_of(const at::Tensor& states) const {
  return (neighbours(states).kernels + settings_.epsilon).log() / -beta();
}

BestMatches KernelMemory::best_matches_of(const at::Tensor& states, int64_t k) const {
  return detail::nearest_rows(states, patterns(), squared_norms(), k);
}

void KernelMemory::write(io::SafetensorsFile& file) const {
  if (settings_.beta) file.metadata["beta"] = detail::text_of(*settings_.beta);
  file.metadata["epsilon"] = detail::text_of(settings_.epsilon);
}

std::unique_ptr<Memory> KernelMemory::read(const detail::MemoryFile& file) {
  KernelOptions options;
  if (file.content.metadata.count("beta") > 0) options.beta(file.number("beta"));
  return std::make_unique<KernelMemory>(file.tensor("patterns", 2), options.epsilon(file.number("epsilon")));
}

}  // namespace hopfield::memory
