#include "theory/k90.h"
#include "theory/pattern_checks.h"
#include "theory/tiles.h"
#include <hopfield/theory/fixed_points.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, kFunction, ": ", __VA_ARGS__)

namespace hopfield::theory {
namespace {

constexpr const char* kFunction = "hopfield::theory::suggest_beta";

/// Calls visit(softmax(beta states patterns^T)) for tiles of the states.
template <typename Visit>
void for_weight_tiles(const at::Tensor& patterns, double beta, const at::Tensor& states, const Visit& visit) {
  for_row_tiles(states.size(0), patterns.size(0), [&](int64_t first, int64_t count) {
    visit(at::mm(states.narrow(0, first, count), patterns.t()).mul_(beta).softmax(-1));
  });
}

/// Whether a median is at most k, and whether it is below k.
struct Side {
  bool is_at_most, is_below;
};

/// What is asked of the patterns [N, d] at one beta.
class Patterns {
 public:
  explicit Patterns(const at::Tensor& rows) : rows_(rows) {}

  int64_t count() const { return rows_.size(0); }

  /// Where the lower median of k90 is, which half of the patterns decide. The k largest weights are enough to know.
  Side side_of(int64_t k, double beta) const {
    int64_t at_most = 0, below = 0;
    for_weight_tiles(rows_, beta, rows_, [&](const at::Tensor& weights) {
      const auto largest = std::get<0>(weights.topk(k, -1));  // in descending order
      at_most += (largest.sum(-1) >= kNineTenths).sum().item<int64_t>();
      if (k > 1) below += (largest.narrow(-1, 0, k - 1).sum(-1) >= kNineTenths).sum().item<int64_t>();
    });
    const auto half = (count() - 1) / 2;
    return {at_most > half, below > half};
  }

  int64_t median(double beta) const { return k90_of(rows_, beta, rows_).median().item<int64_t>(); }

 private:
  at::Tensor rows_;
};

/// Two betas: at the first, which is smaller, a statement does not hold yet, and at the second it does.
struct Bracket {
  double before, after;

  double width() const { return std::log(after / before); }
  double middle() const { return std::sqrt(before) * std::sqrt(after); }
  void narrow(double beta, bool holds) {
    if (beta > before && beta < after) (holds ? after : before) = beta;
  }
};

/// The middle of the betas that give the median k, from the side that the median has at the ends of the bracket. Each
/// of the statements "at most k" and "below k" holds from some beta on, and as no weight that counts is zero, the first
/// one does so earlier.
double middle_of_betas(const Patterns& patterns, int64_t k, const Bracket& all, Side first, Side last) {
  auto least = all, greatest = all;
  // Where equal weights give the median k, all small betas do; where equal patterns do, all large ones.
  if (first.is_at_most) least.after = least.before;
  if (!last.is_below) greatest.before = greatest.after;
  while (true) {
    const auto between = std::log(greatest.before / least.after);
    auto& wider = least.width() > greatest.width() ? least : greatest;
    if (wider.width() <= std::max(1e-13, std::min(0.01, 0.1 * between))) break;
    const auto beta = wider.middle();
    const auto side = patterns.side_of(k, beta);
    least.narrow(beta, side.is_at_most);
    greatest.narrow(beta, side.is_below);
  }
  if (!last.is_below) return 2 * least.after;
  return first.is_at_most ? 0.5 * greatest.before : std::sqrt(least.after) * std::sqrt(greatest.before);
}

}  // namespace

at::Tensor k90_of(const at::Tensor& patterns, double beta, const at::Tensor& states) {
  constexpr const char* kName = "hopfield::theory::k90_of";
  const at::NoGradGuard no_grad;
  const auto rows = checked_rows(kName, "patterns", patterns, 1);
  const auto queries = checked_states(kName, "states", states, rows);
  check_beta(kName, beta);
  std::vector<at::Tensor> parts{at::empty({0}, rows.options().dtype(at::kLong))};
  for_weight_tiles(rows, beta, queries, [&](const at::Tensor& weights) { parts.push_back(k90(weights)); });
  return at::cat(parts);
}

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
  const Bracket betas{1e-14 / square, 1e16 / square};
  const auto first = all.side_of(wanted_k90, betas.before), last = all.side_of(wanted_k90, betas.after);
  HOPFIELD_CHECK(last.is_at_most, "expected patterns of which the median k90 can be ", wanted_k90,
                 ", got a median k90 of ", all.median(betas.after), " at every large beta, as equal patterns have");
  const auto beta = middle_of_betas(all, wanted_k90, betas, first, last);
  HOPFIELD_CHECK(all.median(beta) == wanted_k90, "expected patterns of which the median k90 can be ", wanted_k90,
                 ", got ", all.median(beta), " at beta ", beta,
                 ", where it should be: their products differ by little more than rounding");
  return beta;
}

}  // namespace hopfield::theory
