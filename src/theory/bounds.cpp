#include "theory/pattern_checks.h"
#include "theory/tiles.h"
#include <hopfield/memory/continuous.h>
#include <hopfield/ops/retrieve.h>
#include <hopfield/theory/bounds.h>

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace hopfield::theory {
namespace {

constexpr double kE = 2.71828182845904523536, kTolerance = 1e-12;

/// Checks patterns and queries. @return the patterns in float64
at::Tensor checked_patterns(const at::Tensor& patterns, const at::Tensor& queries) {
  const auto all = checked_rows("hopfield::theory", "patterns", patterns, 1);
  TORCH_CHECK(queries.dim() == 2 && queries.size(1) == patterns.size(1) && queries.size(0) > 0,
              "hopfield::theory: expected queries [Q, ", patterns.size(1),
              "] with at least one query, got a tensor of the shape ", queries.sizes());
  TORCH_CHECK(queries.scalar_type() == patterns.scalar_type() && queries.device() == patterns.device(),
              "hopfield::theory: expected queries of the type and device of the patterns, ", patterns.scalar_type(),
              " on ", patterns.device(), ", got ", queries.scalar_type(), " on ", queries.device());
  TORCH_CHECK(at::isfinite(queries).all().item<bool>(),
              "hopfield::theory: expected finite queries, got infinity or NaN");
  return all;
}

at::Tensor updated(const at::Tensor& states, const at::Tensor& patterns, const RetrieveOptions& options) {
  auto result = at::empty_like(states);
  for_row_tiles(states.size(0), patterns.size(0), [&](int64_t first, int64_t count) {
    result.narrow(0, first, count).copy_(retrieve(states.narrow(0, first, count), patterns, options).state);
  });
  return result;
}

at::Tensor length(const at::Tensor& rows) { return rows.norm(2, {-1}); }

}  // namespace

int64_t Guarantees::count() const { return well_separated.sum().item<int64_t>(); }

std::string Guarantees::words(int64_t pattern) const {
  TORCH_CHECK(pattern >= 0 && pattern < separation.count(), "hopfield::theory: expected a pattern from 0 to ",
              separation.count() - 1, ", got ", pattern);
  const auto delta = separation.delta[pattern].item<double>();
  if (well_separated[pattern].item<bool>()) {
    return fmt::format("guaranteed: Delta_{} = {:.4g} >= {:.4g}, one fixed point within {:.3g} of the pattern", pattern,
                       delta, required, radius);
  }
  if (delta == 0) {
    return fmt::format(
        "no guarantee: Delta_{0} = 0, as pattern {1} has the same product with pattern {0} as that with itself",
        pattern, separation.nearest[pattern].item<int64_t>());
  }
  return fmt::format("no guarantee: Delta_{} = {:.4g} < {:.4g}", pattern, delta, required);
}

Guarantees guarantees(const PatternSeparation& separation, double beta) {
  Guarantees result;
  result.separation = separation;
  result.beta = beta;
  result.required = required_separation(separation.count(), beta, separation.largest_norm);
  result.radius = sphere_radius(separation.count(), beta, separation.largest_norm);
  result.well_separated = separation.delta >= result.required;
  return result;
}

Guarantees guarantees(const at::Tensor& patterns, double beta) {
  return guarantees(pattern_separation(patterns), beta);
}

QueryBounds query_bounds(const at::Tensor& patterns, const at::Tensor& queries, const Guarantees& guarantees) {
  const auto all = checked_patterns(patterns, queries);
  TORCH_CHECK(guarantees.separation.delta.defined() && guarantees.separation.count() == patterns.size(0),
              "hopfield::theory: expected the guarantees of these ", patterns.size(0), " patterns, got those of ",
              guarantees.separation.delta.defined() ? guarantees.separation.count() : 0);
  const at::NoGradGuard no_grad;
  const auto stored = patterns.detach(), cues = queries.detach();
  const auto beta = guarantees.beta, largest = guarantees.separation.largest_norm;
  const auto others = static_cast<double>(guarantees.separation.count() - 1);
  const auto xi = cues.to(at::kDouble);
  const auto updates = RetrieveOptions().beta(beta);

  QueryBounds bounds;
  const memory::ContinuousMemory nearest(stored, memory::ContinuousOptions().similarity(memory::Similarity::euclidean));
  bounds.pattern = nearest.best_matches(cues, 1).indices.squeeze(1);
  const auto x = all.index_select(0, bounds.pattern);
  bounds.distance = length(xi - x);
  bounds.updated = updated(xi, all, RetrieveOptions(updates).update_steps_max(1));
  // Each pattern that is near a query is updated once.
  const auto [unique, inverse, counts] = at::unique_dim(bounds.pattern, 0, true, true);
  const auto settled =
      updated(all.index_select(0, unique), all,
              RetrieveOptions(updates).until_converged().update_steps_eps(kTolerance * largest).update_steps_cap(1000));
  bounds.fixed_point = settled.index_select(0, inverse);

  bounds.fixed_point_error = length(bounds.fixed_point - x);
  bounds.qualifies = guarantees.well_separated.index_select(0, bounds.pattern)
                         .logical_and(bounds.distance <= guarantees.radius)
                         .logical_and(bounds.fixed_point_error <= guarantees.radius);
  const auto delta = guarantees.separation.delta.index_select(0, bounds.pattern);
  const auto r = at::maximum(bounds.distance, bounds.fixed_point_error);
  const auto decay = (-beta * (delta - 2 * largest * r)).exp();
  bounds.retrieval_error = length(bounds.updated - x);
  bounds.retrieval_bound = 2 * others * largest * decay;
  bounds.jacobian_bound = beta * (others + 1) * largest * bounds.retrieval_bound;
  bounds.update_distance = length(bounds.updated - bounds.fixed_point);
  bounds.update_bound = bounds.jacobian_bound * length(xi - bounds.fixed_point);
  const auto is_near = r <= 1 / (2 * beta * largest);
  bounds.fixed_point_bound = (2 * kE * others * largest * (-beta * delta).exp())
                                 .masked_fill(is_near.logical_not(), std::numeric_limits<double>::infinity());
  return bounds;
}

Trajectories run(const at::Tensor& patterns, double beta, const at::Tensor& queries, int64_t most_updates) {
  const auto all = checked_patterns(patterns, queries);
  check_beta("hopfield::theory::run", beta);
  TORCH_CHECK(most_updates >= 1, "hopfield::theory: expected at least 1 update, got ", most_updates);
  const at::NoGradGuard no_grad;
  const auto tolerance = kTolerance * length(all).max().item<double>();
  const auto with_energy = RetrieveOptions().beta(beta).with_energy();
  Trajectories result;
  result.state = queries.detach().to(at::kDouble).clone();
  result.steps = at::zeros({queries.size(0)}, result.state.options().dtype(at::kLong));
  result.gradient = at::empty({queries.size(0)}, result.state.options());
  std::vector<std::vector<at::Tensor>> energies;  // of each tile
  size_t most = 0;
  for_row_tiles(queries.size(0), all.size(0), [&](int64_t first, int64_t count) {
    auto state = result.state.narrow(0, first, count), steps = result.steps.narrow(0, first, count);
    auto gradient = result.gradient.narrow(0, first, count);
    auto& energy = energies.emplace_back();
    energy.push_back(retrieve(state, all, RetrieveOptions(with_energy).update_steps_max(0)).energy);
    for (int64_t step = 0; step <= most_updates; ++step) {
      const auto next = retrieve(state, all, RetrieveOptions(with_energy).update_steps_max(1));
      gradient.copy_(length(state - next.state));
      const auto moves = gradient > tolerance;
      if (step == most_updates || !moves.any().item<bool>()) break;
      state.copy_(at::where(moves.unsqueeze(1), next.state, state));
      steps.add_(moves);
      energy.push_back(at::where(moves, next.energy, energy.back()));
    }
    most = std::max(most, energy.size());
  });
  std::vector<at::Tensor> columns;
  for (auto& energy : energies) {
    energy.resize(most, energy.back());
    columns.push_back(at::stack(energy));
  }
  result.energy = at::cat(columns, 1);
  if (most > 1) {
    const auto before = result.energy.narrow(0, 0, static_cast<int64_t>(most) - 1);
    const auto rise = result.energy.narrow(0, 1, static_cast<int64_t>(most) - 1) - before;
    result.largest_rise = (rise / before.abs().clamp_min(1)).max().item<double>();
  }
  return result;
}

}  // namespace hopfield::theory
