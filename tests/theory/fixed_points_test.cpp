#include "support/allocations.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/core/energy.h>
#include <hopfield/core/update.h>
#include <hopfield/theory/fixed_points.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::theory {
namespace {

using hopfield::testing::error_of;
using hopfield::testing::expect_error;
using hopfield::testing::max_difference;
using hopfield::testing::randn;
using hopfield::testing::WrongCall;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Patterns of norm 2 in clusters of 4 around the first axes.
at::Tensor clustered(int64_t clusters, int64_t d, double spread = 0.3) {
  const auto centres = at::eye(d, at::kDouble).narrow(0, 0, clusters).repeat_interleave(4, 0);
  const auto rows = centres + randn({4 * clusters, d}, 1) * spread / std::sqrt(static_cast<double>(d));
  return 2 * rows / rows.norm(2, -1, true);
}

/// |grad E| at the states by autograd of the energy.
double gradient_at(const at::Tensor& patterns, double beta, const at::Tensor& states) {
  auto leaf = states.clone().requires_grad_(true);
  const auto energy = core::energy(leaf, patterns, at::scalar_tensor(beta, at::kDouble));
  return torch::autograd::grad({energy.sum()}, {leaf})[0].norm(2, -1).max().item<double>();
}

int64_t naive_k90(const at::Tensor& weights) {
  const auto sums = std::get<0>(weights.sort(-1, true)).cumsum(-1);
  return (sums < 0.9 * (1 - 1e-12)).sum(-1).item<int64_t>() + 1;
}

/// The lower median over the patterns.
int64_t median_k90(const at::Tensor& patterns, double beta) {
  const auto weights = (beta * at::mm(patterns, patterns.t())).softmax(-1);
  std::vector<int64_t> all;
  for (int64_t i = 0; i < patterns.size(0); ++i) all.push_back(naive_k90(weights[i]));
  std::sort(all.begin(), all.end());
  return all[(all.size() - 1) / 2];
}

TEST(FixedPoints, RisingBetaGivesOneThenTheClustersThenThePatterns) {
  const auto patterns = clustered(3, 8);
  const auto find = [&](double beta) {
    return find_fixed_points(patterns, beta, FixedPointOptions().starts(patterns));
  };
  const auto few = find(0.1);
  ASSERT_EQ(few.size(), 1);
  EXPECT_EQ(few.kinds[0], FixedPointKind::global_average);
  EXPECT_EQ(few.starts.item<int64_t>(), 1012);
  EXPECT_EQ(few.basin.item<double>(), 1.0);
  EXPECT_EQ(few.basin_error.item<double>(), 0.0);

  const auto some = find(2.0);
  ASSERT_EQ(some.size(), 3);
  EXPECT_TRUE(some.k90.equal(at::full({3}, 4, at::kLong))) << some.k90;
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(some.kinds[i], FixedPointKind::metastable);
    const auto sorted = std::get<0>(some.members[i].sort());
    EXPECT_TRUE(sorted.equal(sorted[0] + at::arange(4)));  // a whole cluster
    EXPECT_EQ(sorted[0].item<int64_t>() % 4, 0);
  }
  EXPECT_NEAR(some.basin.sum().item<double>(), 1.0, 1e-12);
  EXPECT_EQ(some.starts.sum().item<int64_t>(), 1012);

  const auto all = find(200.0);
  ASSERT_EQ(all.size(), 12);
  std::vector<int64_t> found;
  for (int64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(all.kinds[i], FixedPointKind::single_pattern);
    ASSERT_EQ(all.members[i].numel(), 1);
    found.push_back(all.members[i].item<int64_t>());
    EXPECT_LT(max_difference(all.states[i], patterns[found.back()]), 0.1);
  }
  std::sort(found.begin(), found.end());
  EXPECT_TRUE(at::tensor(found).equal(at::arange(12)));
}

TEST(FixedPoints, TheEnergyIsStationaryAtEachOfThem) {
  for (const double beta : {0.1, 0.7, 1.5, 3.0, 10.0, 30.0, 200.0}) {
    for (const auto& patterns : {clustered(3, 8), randn({20, 5}, 2), randn({50, 16}, 3) / 4.0, 30 * clustered(3, 8)}) {
      const auto found = find_fixed_points(patterns, beta, FixedPointOptions().random_starts(200));
      ASSERT_GT(found.size(), 0) << beta;
      EXPECT_LE(found.residual.max().item<double>(), 1e-10) << beta;
      EXPECT_LE(gradient_at(patterns, beta, found.states), 1e-10) << beta;
      EXPECT_EQ(found.starts.sum().item<int64_t>() + found.not_converged, 200);
      EXPECT_LE(found.not_converged, 2);
      // In the order of starts, and none of them twice.
      EXPECT_TRUE((found.starts.slice(0, 1) <= found.starts.slice(0, 0, -1)).all().item<bool>());
      const auto apart = at::cdist(found.states, found.states) + 9 * at::eye(found.size(), at::kDouble);
      EXPECT_GT(apart.min().item<double>(), 1e-6);
      // What is said of each start is where it ends.
      EXPECT_TRUE((found.fixed_point_of + 1).bincount({}, found.size() + 1).slice(0, 1).equal(found.starts));
    }
  }
}

TEST(FixedPoints, KindsAreThoseOfTheWeights) {
  const auto patterns = randn({20, 5}, 2);
  for (const double beta : {0.2, 0.5, 1.0, 2.0, 8.0}) {
    const auto found = find_fixed_points(patterns, beta);
    for (int64_t i = 0; i < found.size(); ++i) {
      const auto weights = (beta * at::mv(patterns, found.states[i])).softmax(-1);
      const auto k = naive_k90(weights);
      EXPECT_EQ(found.k90[i].item<int64_t>(), k);
      EXPECT_EQ(found.kinds[i], k == 1    ? FixedPointKind::single_pattern
                                : k >= 10 ? FixedPointKind::global_average
                                          : FixedPointKind::metastable);
      EXPECT_TRUE(weights.index({found.members[i]}).equal(std::get<0>(weights.topk(k))));
    }
  }
  EXPECT_STREQ(to_string(FixedPointKind::global_average), "global average");
}

TEST(FixedPoints, OneAndTwoPatternsAreSinglePatternsFirst) {
  const auto one = find_fixed_points(randn({1, 4}, 1), 2.0);
  ASSERT_EQ(one.size(), 1);
  EXPECT_EQ(one.kinds[0], FixedPointKind::single_pattern);
  EXPECT_EQ(one.starts.item<int64_t>(), 1000);
  const auto pair = at::eye(2, at::kDouble);
  const auto sharp = find_fixed_points(pair, 20.0, FixedPointOptions().starts(pair));
  ASSERT_EQ(sharp.size(), 2);
  EXPECT_EQ(sharp.kinds[0], FixedPointKind::single_pattern);
  const auto blurred = find_fixed_points(pair, 0.5);
  ASSERT_EQ(blurred.size(), 1);
  EXPECT_EQ(blurred.kinds[0], FixedPointKind::global_average);
  EXPECT_LT(max_difference(blurred.states, at::full({1, 2}, 0.5, at::kDouble)), 1e-10);
}

TEST(FixedPoints, BasinsOfMirroredPatternsAreEqual) {
  // x and -x attract half of the states each.
  const auto x = randn({1, 6}, 1);
  const auto patterns = at::cat({x, -x});
  const auto found = find_fixed_points(patterns, 3.0, FixedPointOptions().random_starts(4000).seed(7));
  ASSERT_EQ(found.size(), 2);
  const auto error = found.basin_error.max().item<double>();
  EXPECT_NEAR(error, std::sqrt(0.25 / 4000), 1e-4);
  EXPECT_NEAR(found.basin[0].item<double>(), 0.5, 4 * error);
  EXPECT_NEAR(found.basin.sum().item<double>(), 1.0, 1e-12);
  // The same seed draws the same starts, another one others.
  const auto again = find_fixed_points(patterns, 3.0, FixedPointOptions().random_starts(4000).seed(7));
  EXPECT_TRUE(again.fixed_point_of.equal(found.fixed_point_of));
  const auto other = find_fixed_points(patterns, 3.0, FixedPointOptions().random_starts(4000).seed(8));
  EXPECT_FALSE(other.fixed_point_of.equal(found.fixed_point_of));
}

TEST(FixedPoints, GivenStartsAloneHaveNoBasins) {
  const auto patterns = clustered(3, 8).to(at::kFloat);
  const auto options = FixedPointOptions().starts(patterns.narrow(0, 4, 2)).random_starts(0);
  const auto found = find_fixed_points(patterns, 3.0, options);
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found.starts.item<int64_t>(), 2);
  EXPECT_TRUE(found.fixed_point_of.equal(at::zeros({2}, at::kLong)));
  EXPECT_TRUE(found.basin.isnan().item<bool>());
  EXPECT_TRUE(found.basin_error.isnan().item<bool>());
  EXPECT_EQ(found.states.scalar_type(), at::kDouble);
  // Starts that do not get there in time are counted, and no fixed point is made of them.
  const auto early = find_fixed_points(patterns, 3.0, FixedPointOptions(options).update_steps_cap(1));
  EXPECT_EQ(early.size(), 0);
  EXPECT_EQ(early.not_converged, 2);
  EXPECT_TRUE(early.fixed_point_of.equal(at::full({2}, -1, at::kLong)));
}

TEST(FixedPoints, SpectralNormIsTheLargestEigenvalueOfTheJacobian) {
  for (const auto& [n, d] : std::vector<std::pair<int64_t, int64_t>>{{12, 8}, {40, 24}, {3, 10}, {60, 1}, {1, 5}}) {
    const auto patterns = n == 12 ? clustered(3, 8) : randn({n, d}, n);
    for (const double beta : {0.05, 0.3, 1.0, 4.0, 30.0}) {
      const auto states =
          at::cat({find_fixed_points(patterns, beta, FixedPointOptions().random_starts(50)).states, randn({4, d}, 9)});
      const auto norms = jacobian_norm(patterns, beta, states);
      for (int64_t i = 0; i < states.size(0); ++i) {
        const auto p = (beta * at::mv(patterns, states[i])).softmax(-1);
        const auto jacobian = beta * at::mm(patterns.t(), at::mm(at::diag(p) - at::outer(p, p), patterns));
        const auto largest = at::linalg_eigvalsh(jacobian).max().item<double>();
        EXPECT_NEAR(norms[i].item<double>(), largest, 1e-8 * std::max(1.0, largest)) << n << " " << d << " " << beta;
      }
    }
  }
}

TEST(FixedPoints, SpectralNormIsThatOfAutograd) {
  const auto patterns = clustered(3, 8);
  const auto found = find_fixed_points(patterns, 3.0);
  EXPECT_LT(found.spectral_norm.max().item<double>(), 1.0);  // the random starts were drawn there
  const auto beta = at::scalar_tensor(3.0, at::kDouble);
  for (int64_t i = 0; i < found.size(); ++i) {
    auto state = found.states.narrow(0, i, 1).clone().requires_grad_(true);
    const auto next = core::update(state, patterns, beta);
    std::vector<at::Tensor> rows;
    for (int64_t j = 0; j < 8; ++j) rows.push_back(torch::autograd::grad({next[0][j]}, {state}, {}, true)[0][0]);
    const auto norm = std::get<1>(at::linalg_svd(at::stack(rows))).max().item<double>();
    EXPECT_NEAR(found.spectral_norm[i].item<double>(), norm, 1e-8);
  }
  // Between two patterns there is a fixed point that repels: only a start in the plane between them ends there.
  const auto pair = at::eye(2, at::kDouble);
  const auto saddle =
      find_fixed_points(pair, 8.0, FixedPointOptions().starts(at::full({1, 2}, 0.2, at::kDouble)).random_starts(0));
  ASSERT_EQ(saddle.size(), 1);
  EXPECT_NEAR(saddle.spectral_norm.item<double>(), 4.0, 1e-8);  // beta (|x|^2 - x.y) / 2
}

TEST(FixedPoints, K90OfStatesIsThatOfTheirWeights) {
  const auto patterns = randn({40, 6}, 5), states = randn({7, 6}, 6);
  for (const double beta : {0.1, 1.0, 10.0}) {
    const auto weights = (beta * at::mm(states, patterns.t())).softmax(-1);
    const auto k = k90_of(patterns, beta, states);
    ASSERT_EQ(k.sizes(), at::IntArrayRef({7}));
    for (int64_t i = 0; i < 7; ++i) EXPECT_EQ(k[i].item<int64_t>(), naive_k90(weights[i]));
  }
  EXPECT_EQ(k90_of(patterns, 1.0, states.narrow(0, 0, 0)).sizes(), at::IntArrayRef({0}));
}

TEST(FixedPoints, SuggestedBetaGivesTheWantedMedian) {
  for (const auto& patterns : {randn({60, 8}, 1), randn({61, 16}, 2).to(at::kFloat), 100 * randn({50, 4}, 3)}) {
    for (const int64_t wanted : {1, 2, 5, 20, 40, 45}) {
      const auto beta = suggest_beta(patterns, wanted);
      EXPECT_GT(beta, 0);
      EXPECT_EQ(median_k90(patterns.to(at::kDouble), beta), wanted);
    }
  }
  // 0.9 N itself, which equal weights give.
  const auto ten = randn({10, 5}, 4);
  EXPECT_EQ(median_k90(ten, suggest_beta(ten, 9)), 9);
  const auto two = randn({2, 5}, 5);
  EXPECT_EQ(median_k90(two, suggest_beta(two, 1)), 1);
  // Every pattern stored twice: no smaller median than 2.
  const auto twice = randn({15, 6}, 6).repeat({2, 1});
  EXPECT_EQ(median_k90(twice, suggest_beta(twice, 2)), 2);
  EXPECT_EQ(median_k90(twice, suggest_beta(twice, 8)), 8);
}

TEST(FixedPoints, SuggestedBetaIsFoundInTiles) {
  const auto patterns = randn({2200, 4}, 1);  // two tiles
  double beta = 0.0;
  const auto peak = hopfield::testing::peak_bytes([&] { beta = suggest_beta(patterns, 30); });
  EXPECT_EQ(median_k90(patterns, beta), 30);
  // Products and weights of a tile, and not of all patterns too; the median at the end sorts the weights.
  EXPECT_LT(peak, 6 * 8 * (int64_t{1} << 22));
}

TEST(FixedPoints, WrongCallsAreRefused) {
  const auto x = randn({6, 4}, 1);
  auto not_a_number = x.clone();
  not_a_number[2][3] = kNaN;
  using Options = FixedPointOptions;
  const std::vector<WrongCall> calls{
      {"no patterns", [&] { find_fixed_points({}, 1.0); }, {"patterns", "undefined"}},
      {"empty patterns", [&] { find_fixed_points(x.narrow(0, 0, 0), 1.0); }, {"patterns", "at least 1", "[0, 4]"}},
      {"no features", [&] { find_fixed_points(x.narrow(1, 0, 0), 1.0); }, {"patterns", "1 feature", "[6, 0]"}},
      {"one dimension", [&] { find_fixed_points(x[0], 1.0); }, {"patterns", "[N, d]", "[4]"}},
      {"integers", [&] { find_fixed_points(x.to(at::kLong), 1.0); }, {"patterns", "floating-point", "Long"}},
      {"NaN", [&] { find_fixed_points(not_a_number, 1.0); }, {"patterns", "finite"}},
      {"beta 0", [&] { find_fixed_points(x, 0.0); }, {"beta", "positive", "0"}},
      {"negative beta", [&] { find_fixed_points(x, -2.0); }, {"beta", "positive", "-2"}},
      {"NaN beta", [&] { find_fixed_points(x, kNaN); }, {"beta", "finite", "nan"}},
      {"starts of another width",
       [&] {
         find_fixed_points(x, 1.0, Options().starts(at::zeros({2, 3})));
       },
       {"starts", "4 features", "[2, 3]"}},
      {"NaN in starts", [&] { find_fixed_points(x, 1.0, Options().starts(not_a_number)); }, {"starts", "finite"}},
      {"no starts", [&] { find_fixed_points(x, 1.0, Options().random_starts(0)); }, {"starts", "none"}},
      {"negative random_starts",
       [&] { find_fixed_points(x, 1.0, Options().random_starts(-1)); },
       {"random_starts", "-1"}},
      {"no tolerance", [&] { find_fixed_points(x, 1.0, Options().tolerance(0)); }, {"tolerance", "positive"}},
      {"negative distance", [&] { find_fixed_points(x, 1.0, Options().merge_distance(-1)); }, {"merge_distance", "-1"}},
      {"no updates",
       [&] { find_fixed_points(x, 1.0, Options().update_steps_cap(0)); },
       {"update_steps_cap", "at least 1"}},
      {"states of another width",
       [&] {
         jacobian_norm(x, 1.0, at::zeros({2, 3}));
       },
       {"states", "4 features", "[2, 3]"}},
      {"one state", [&] { jacobian_norm(x, 1.0, x[0]); }, {"states", "[N, d]", "[4]"}},
      {"states of another width",
       [&] {
         k90_of(x, 1.0, at::zeros({2, 3}));
       },
       {"states", "4", "3"}},
      {"beta of a k90", [&] { k90_of(x, -1.0, x); }, {"beta", "positive"}},
      {"beta of a Jacobian", [&] { jacobian_norm(x, 0.0, x); }, {"beta", "positive"}},
      {"one pattern", [&] { suggest_beta(x.narrow(0, 0, 1), 1); }, {"patterns", "at least 2", "[1, 4]"}},
      {"NaN in patterns", [&] { suggest_beta(not_a_number, 1); }, {"patterns", "finite"}},
      {"equal patterns",
       [&] {
         suggest_beta(x.narrow(0, 0, 1).repeat({6, 1}), 1);
       },
       {"differ", "6 equal ones"}},
      {"pairs of equal patterns",
       [&] {
         suggest_beta(x.repeat({2, 1}), 1);
       },
       {"median k90", "2 at every large beta"}},
      {"a median of 0", [&] { suggest_beta(x, 0); }, {"wanted_k90", "0.9 N = 5.4", "0"}},
      {"a median above 0.9 N", [&] { suggest_beta(x, 6); }, {"wanted_k90", "0.9 N = 5.4", "6"}},
      {"patterns that differ by rounding",
       [&] {
         suggest_beta(at::ones({20, 4}, at::kDouble) + 1e-16 * at::eye(20, 4, at::kDouble) * 3, 9);
       },
       {"patterns"}},
  };
  for (const auto& call : calls) expect_error(call);
}

}  // namespace
}  // namespace hopfield::theory
