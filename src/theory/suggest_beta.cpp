#include "theory/k90.h"
#include "theory/pattern_checks.h"
#include <hopfield/theory/fixed_points.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, kFunction, ": ", __VA_ARGS__)

namespace hopfield::theory {
namespace {

constexpr const char* kFunction = "hopfield::theory::suggest_beta";

/// What is asked of the patterns [N, d] at one beta.
class Patterns {
 public:
  explicit Patterns(const at::Tensor& rows) : rows_(rows) {}

  int64_t count() const { return rows_.size(0); }

  /// Whether the lower median of k90 is at most k: whether that is so of half of the patterns. The k largest weights
  /// are enough to know.
  bool median_is_at_most(int64_t k, double beta) const {
    if (k == 0) return false;
    int64_t counted = 0;
    for_each_tile(beta, [&](const at::Tensor& weights) {
      const auto sums = std::get<0>(weights.topk(k, -1)).sum(-1);
      counted += (sums >= kNineTenths).sum().item<int64_t>();
    });
    return counted > (count() - 1) / 2;
  }

  int64_t median(double beta) const {
    std::vector<at::Tensor> all;
    for_each_tile(beta, [&](const at::Tensor& weights) { all.push_back(k90(weights)); });
    return at::cat(all).median().item<int64_t>();
  }

 private:
  template <typename Visit>
  void for_each_tile(double beta, const Visit& visit) const {
    const auto step = std::max<int64_t>(1, kTileNumbers / count());
    for (int64_t first = 0; first < count(); first += step) {
      const auto tile = rows_.narrow(0, first, std::min(step, count() - first));
      visit(at::mm(tile, rows_.t()).mul_(beta).softmax(-1));
    }
  }

  at::Tensor rows_;
};

/// Two betas: at the first, which is smaller, the median is above k, and at the second it is not.
struct Bracket {
  double above, below;
};

/// The same, as close to each other as is worth it.
Bracket bisect(const Patterns& patterns, int64_t k, Bracket bracket) {
  while (bracket.below / bracket.above > 1 + 1e-9) {
    const auto middle = std::sqrt(bracket.above * bracket.below);
    (patterns.median_is_at_most(k, middle) ? bracket.below : bracket.above) = middle;
  }
  return bracket;
}

/// The middle of the betas that give the median k. Each of the inequalities median <= k and median <= k - 1 holds from
/// some beta on, and as no weight that counts is zero, the first one does so earlier.
double middle_of_betas(const Patterns& patterns, int64_t k, Bracket everything) {
  // Where equal weights give the median k, all small betas do; where equal patterns do, all large ones.
  const bool has_least = !patterns.median_is_at_most(k, everything.above);
  const bool has_greatest = patterns.median_is_at_most(k - 1, everything.below);
  const auto least = has_least ? bisect(patterns, k, everything).below : everything.above;
  if (!has_greatest) return 2 * least;
  const auto greatest = bisect(patterns, k - 1, {least, everything.below}).above;
  return has_least ? std::sqrt(least * greatest) : 0.5 * greatest;
}

}  // namespace

double suggest_beta(const at::Tensor& patterns, int64_t wanted_k90) {
  const at::NoGradGuard no_grad;
  const auto rows = checked_rows(kFunction, "patterns", patterns, 2);
  const Patterns all(rows);
  const auto most = 0.9 * static_cast<double>(all.count());
  HOPFIELD_CHECK(wanted_k90 >= 1 && static_cast<double>(wanted_k90) <= most,
                 "expected wanted_k90 to be from 1 to 0.9 N = ", most, ", got ", wanted_k90);
  HOPFIELD_CHECK((rows != rows[0]).any().item<bool>(), "expected patterns that differ, got ", all.count(),
                 " equal ones");

  // Scores differ by at most 2 max |x|^2. At the lowest beta weights are equal to rounding, and at the highest beta
  // only patterns share weight whose scores differ by no more than rounding.
  const auto square = rows.pow(2).sum(-1).max().item<double>();
  const Bracket everything{1e-14 / square, 1e16 / square};
  HOPFIELD_CHECK(all.median_is_at_most(wanted_k90, everything.below),
                 "expected patterns of which the median k90 can be ", wanted_k90, ", got a median k90 of ",
                 all.median(everything.below), " at every large beta, as equal patterns have");
  const auto beta = middle_of_betas(all, wanted_k90, everything);
  HOPFIELD_CHECK(all.median(beta) == wanted_k90, "expected patterns of which the median k90 can be ", wanted_k90,
                 ", got ", all.median(beta), " at beta ", beta,
                 ", where it should be: their products differ by little more than rounding");
  return beta;
}

}  // namespace hopfield::theory
