#include "theory/k90.h"
#include "theory/pattern_checks.h"
#include "theory/tiles.h"
#include <hopfield/core/update.h>
#include <hopfield/ops/retrieve.h>
#include <hopfield/theory/fixed_points.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <limits>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, kFunction, ": ", __VA_ARGS__)

namespace hopfield::theory {
namespace {

constexpr const char* kFunction = "hopfield::theory::find_fixed_points";

void check_settings(const FixedPointSettings& settings) {
  HOPFIELD_CHECK(settings.random_starts >= 0, "expected random_starts to be 0 or positive, got ",
                 settings.random_starts);
  HOPFIELD_CHECK(settings.tolerance > 0 && std::isfinite(settings.tolerance),
                 "expected tolerance to be positive and finite, got ", settings.tolerance);
  HOPFIELD_CHECK(settings.merge_distance >= 0 && std::isfinite(settings.merge_distance),
                 "expected merge_distance to be 0 or positive, and finite, got ", settings.merge_distance);
  HOPFIELD_CHECK(settings.update_steps_cap > 0, "expected update_steps_cap to be at least 1, got ",
                 settings.update_steps_cap);
}

/// The given starts, and the random ones behind them.
at::Tensor all_starts(const at::Tensor& patterns, const FixedPointSettings& settings) {
  std::vector<at::Tensor> starts;
  if (settings.starts.defined()) starts.push_back(checked_states(kFunction, "starts", settings.starts, patterns));
  const auto noise =
      at::randn({settings.random_starts, patterns.size(1)}, at::detail::createCPUGenerator(settings.seed), at::kDouble);
  const auto mean = patterns.mean(0);
  starts.push_back(mean + noise.to(patterns.device()) * (patterns - mean).pow(2).mean(0).sqrt());
  auto all = at::cat(starts);
  HOPFIELD_CHECK(all.size(0) > 0, "expected starts or random_starts, got none");
  return all;
}

/// Where the updates of the starts end, and how far one more update goes from there.
struct Ends {
  at::Tensor states;    // [M, d]
  at::Tensor residual;  // [M]
};

Ends updated(const at::Tensor& patterns, double beta, const at::Tensor& starts, double eps, int64_t cap) {
  Ends ends{at::empty_like(starts), at::empty({starts.size(0)}, starts.options())};
  const auto options = RetrieveOptions().beta(beta).until_converged().update_steps_eps(eps).update_steps_cap(cap);
  const auto one_beta = at::scalar_tensor(beta, patterns.options());
  for_row_tiles(starts.size(0), patterns.size(0), [&](int64_t first, int64_t length) {
    const auto states = retrieve(starts.narrow(0, first, length), patterns, options).state;
    ends.states.narrow(0, first, length).copy_(states);
    ends.residual.narrow(0, first, length).copy_((states - core::update(states, patterns, one_beta)).norm(2, -1));
  });
  return ends;
}

/// Ends that are fixed points, and which of them are the same.
struct Merged {
  at::Tensor chosen;  // [F], the end that stands for the fixed point
  at::Tensor of;      // [M], the fixed point of each end; -1 if it is none
};

/// The end with the smallest residual stands for all within the distance, then the next one that is left.
Merged merged(const Ends& ends, double tolerance, double distance) {
  const auto is_fixed = ends.residual <= tolerance;
  auto left = ends.residual.argsort();
  left = left.index({is_fixed.index({left})});
  std::vector<at::Tensor> chosen;
  auto of = at::full_like(ends.residual, -1, at::kLong);
  while (left.size(0) > 0) {
    const auto one = left.narrow(0, 0, 1);
    const auto apart = (ends.states.index({left}) - ends.states.index({one})).norm(2, -1);
    const auto same = apart <= distance;
    of.index_put_({left.index({same})}, at::scalar_tensor(static_cast<int64_t>(chosen.size()), of.options()));
    chosen.push_back(one);
    left = left.index({same.logical_not()});
  }
  return {chosen.empty() ? at::empty({0}, of.options()) : at::cat(chosen), of};
}

/// Counts of the fixed points 0 .. size - 1 among indices, of which those of -1 count nowhere.
at::Tensor counts(const at::Tensor& of, int64_t size) { return (of + 1).bincount({}, size + 1).narrow(0, 1, size); }

/// Most starts first.
Merged in_order_of_starts(const Merged& given) {
  const auto size = given.chosen.size(0);
  const auto order = counts(given.of, size).argsort(/*stable=*/true, 0, /*descending=*/true);
  const auto place = at::cat({order.argsort(), at::full({1}, -1, order.options())});  // the last one is found by -1
  return {given.chosen.index({order}), place.index({given.of})};
}

FixedPointKind kind_of(int64_t k90, int64_t patterns) {
  if (k90 == 1) return FixedPointKind::single_pattern;
  return 2 * k90 >= patterns ? FixedPointKind::global_average : FixedPointKind::metastable;
}

void classify(const at::Tensor& patterns, double beta, FixedPoints& found) {
  std::vector<at::Tensor> all_k90{at::empty({0}, patterns.options().dtype(at::kLong))};
  for_row_tiles(found.size(), patterns.size(0), [&](int64_t first, int64_t length) {
    const auto states = found.states.narrow(0, first, length);
    const auto weights = at::mm(states, patterns.t()).mul_(beta).softmax(-1);
    all_k90.push_back(k90(weights));
    const auto host = all_k90.back().cpu();
    const auto order = weights.argsort(/*stable=*/true, -1, /*descending=*/true);
    for (int64_t i = 0; i < host.size(0); ++i) {
      const auto k = host.data_ptr<int64_t>()[i];
      found.kinds.push_back(kind_of(k, patterns.size(0)));
      found.members.push_back(order[i].narrow(0, 0, k).clone());
    }
  });
  found.k90 = at::cat(all_k90);
}

}  // namespace

const char* to_string(FixedPointKind kind) {
  switch (kind) {
    case FixedPointKind::single_pattern:
      return "single pattern";
    case FixedPointKind::global_average:
      return "global average";
    case FixedPointKind::metastable:
      return "metastable";
  }
  return "unknown";
}

FixedPoints find_fixed_points(const at::Tensor& patterns, double beta, const FixedPointOptions& options) {
  const at::NoGradGuard no_grad;
  const auto stored = checked_rows(kFunction, "patterns", patterns, 1);
  check_beta(kFunction, beta);
  const auto& settings = options.settings();
  check_settings(settings);
  const auto starts = all_starts(stored, settings);
  // Patterns that are all zero have the fixed point 0, which the first update gives exactly.
  const auto largest = std::max(stored.norm(2, -1).max().item<double>(), std::numeric_limits<double>::min());
  const auto tolerance = settings.tolerance * largest;
  // Half of it, so that rounding does not take a state beyond the tolerance that has stopped.
  const auto ends = updated(stored, beta, starts, 0.5 * tolerance, settings.update_steps_cap);
  const auto points = in_order_of_starts(merged(ends, tolerance, settings.merge_distance * largest));

  FixedPoints found;
  found.states = ends.states.index({points.chosen});
  found.residual = ends.residual.index({points.chosen});
  found.fixed_point_of = points.of;
  found.starts = counts(points.of, found.size());
  found.not_converged = (points.of < 0).sum().item<int64_t>();
  const auto drawn = static_cast<double>(settings.random_starts);
  const auto drawn_of = points.of.narrow(0, starts.size(0) - settings.random_starts, settings.random_starts);
  found.basin = counts(drawn_of, found.size()).to(at::kDouble) / drawn;
  found.basin_error = (found.basin * (1 - found.basin) / drawn).sqrt();
  found.spectral_norm = jacobian_norm(stored, beta, found.states);
  classify(stored, beta, found);
  return found;
}

}  // namespace hopfield::theory
