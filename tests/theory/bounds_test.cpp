#include "support/errors.h"
#include <hopfield/theory/bounds.h>
#include <hopfield/theory/report.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace {

using namespace hopfield::theory;
using hopfield::testing::expect_error;

/// Random directions of the given length.
torch::Tensor sphere(int64_t count, int64_t width, double norm) {
  return torch::nn::functional::normalize(torch::randn({count, width}, torch::kFloat64)) * norm;
}

/// All queries of a random set to which the theorems apply are held to the bounds. @return how many have a bound that
/// says something: between 1e-12 M and M
int64_t check_bounds(int64_t count, int64_t width, double beta, double norm) {
  const auto patterns = sphere(count, width, norm);
  const auto of_patterns = guarantees(patterns, beta);
  if (of_patterns.count() == 0) return 0;
  const auto reach = torch::rand({count, 1}, torch::kFloat64) * of_patterns.radius;
  const auto bounds = query_bounds(patterns, patterns + sphere(count, width, 1) * reach, of_patterns);
  const auto m = of_patterns.separation.largest_norm, slack = 8 * std::numeric_limits<double>::epsilon() * m;
  const auto held = (bounds.update_distance <= bounds.update_bound + slack)
                        .logical_and(bounds.retrieval_error <= bounds.retrieval_bound + slack)
                        .logical_and(bounds.fixed_point_error <= bounds.fixed_point_bound + slack)
                        // Lemma A4: the fixed point of a well-separated pattern lies in its ball.
                        .logical_and(bounds.fixed_point_error <= of_patterns.radius + slack);
  const auto applies =
      of_patterns.well_separated.index_select(0, bounds.pattern).logical_and(bounds.distance <= of_patterns.radius);
  EXPECT_TRUE(held.logical_or(applies.logical_not()).all().item<bool>()) << count << " " << width << " " << beta;
  const auto says = (bounds.retrieval_bound > 1e-12 * m).logical_and(bounds.retrieval_bound < m);
  return says.logical_and(applies).sum().item<int64_t>();
}

TEST(QueryBounds, HoldInAllQualifyingCases) {
  for (const int64_t width : {4, 8, 16, 32, 64}) {
    torch::manual_seed(width);
    int64_t cases = 0;
    for (int round = 0; round < 60 && cases < 1000; ++round) {
      for (const int64_t count : {4, 16, 64}) {
        for (double beta = 0.25; beta <= 256; beta *= 2) {
          if (count == 4 && round % 8 != 0) continue;
          cases += check_bounds(count, width, beta, round % 2 == 0 ? std::sqrt(width) : 1.0);
        }
      }
    }
    EXPECT_GE(cases, 1000) << width;
  }
}

TEST(Guarantees, AreSaidInWords) {
  const auto patterns = torch::tensor({{1.0, 0.0}, {0.0, 1.0}, {0.0, 1.0}, {0.7, 0.0}}, torch::kFloat64);
  const auto of_patterns = guarantees(patterns, 20.0);
  EXPECT_EQ(of_patterns.count(), 0);
  EXPECT_EQ(of_patterns.words(0), "no guarantee: Delta_0 = 0.3 < 0.3337");
  EXPECT_EQ(of_patterns.words(1),
            "no guarantee: Delta_1 = 0, as pattern 2 has the same product with pattern 1 as that with itself");
  EXPECT_EQ(of_patterns.words(3), "no guarantee: Delta_3 = -0.21 < 0.3337");
  EXPECT_EQ(guarantees(patterns, 40.0).words(0).substr(0, 27), "guaranteed: Delta_0 = 0.3 >");
  expect_error({"of_patterns.words(4)", [&] { of_patterns.words(4); }, {"expected a pattern from 0 to 3, got 4"}});
}

TEST(Run, NeverRaisesTheEnergyAndEndsAtStationaryPoints) {
  torch::manual_seed(3);
  for (const double beta : {0.1, 1.0, 8.0}) {
    const auto patterns = torch::randn({40, 6}, torch::kFloat64), starts = torch::randn({30, 6}, torch::kFloat64) * 2;
    const auto t = run(patterns, beta, starts, 5000);
    EXPECT_LE(t.largest_rise, 1e-14);
    EXPECT_LE(t.gradient.max().item<double>(), 1e-10);
    EXPECT_EQ(t.energy.size(0), t.steps.max().item<int64_t>() + 1);
    EXPECT_TRUE((t.energy[0] > t.energy[-1]).all().item<bool>());
  }
  const auto one = run(torch::ones({2, 3}), 1.0, torch::zeros({2, 3}), 1);
  EXPECT_EQ(one.steps.max().item<int64_t>(), 1);
}

TEST(Report, ShowsGuaranteesBesideObservations) {
  torch::manual_seed(4);
  auto patterns = sphere(30, 16, 4.0);
  patterns[3] = patterns[4] * 0.9;  // Delta_3 < 0
  const auto of_patterns = report(patterns, 2.0);
  const auto page = of_patterns.page();
  EXPECT_GT(of_patterns.qualifying, 10);
  EXPECT_LT(of_patterns.qualifying, 30);
  EXPECT_EQ(of_patterns.held, of_patterns.qualifying);
  for (const auto* part :
       {"30 patterns of 16 features, beta 2, largest norm M = 4", "guaranteed: Delta_",
        "no guarantee: Delta_3 =", "No beta separates all patterns: 1 have Delta <= 0", "Theorem 1", "Theorem 2",
        "Theorem 3", "Theorems 4 and 5", "All bounds hold for", "BinaryNetwork        2.208"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part << "\n" << page;
  }
  // One dimension has no sphere, and a small beta no guarantee.
  EXPECT_NE(report(torch::randn({3, 1}), 1e-3 + 50).page().find("3 patterns of 1 features"), std::string::npos);
}

TEST(Report, RefusesBadInput) {
  const auto patterns = torch::randn({5, 3});
  expect_error({"report(patterns, 0)", [&] { report(patterns, 0); }, {"expected a positive and finite beta, got 0"}});
  expect_error(
      {"report(patterns, -2)", [&] { report(patterns, -2); }, {"expected a positive and finite beta, got -2"}});
  expect_error({"report(torch::zeros({5, 3}), 1)",
                [&] {
                  report(torch::zeros({5, 3}), 1);
                },
                {"positive and finite largest norm, got 0"}});
  expect_error({"report(torch::ones({1, 3}), 1)",
                [&] {
                  report(torch::ones({1, 3}), 1);
                },
                {"expected at least 2 patterns"}});
  expect_error({"report(patterns, 1, torch::randn({2, 4}))",
                [&] {
                  report(patterns, 1, torch::randn({2, 4}));
                },
                {"expected queries [Q, 3]"}});
  expect_error({"report(patterns, 1, torch::randn({0, 3}))",
                [&] {
                  report(patterns, 1, torch::randn({0, 3}));
                },
                {"at least one query"}});
  expect_error({"report(patterns, 1, torch::full({2, 3}, NAN))",
                [&] {
                  report(patterns, 1, torch::full({2, 3}, NAN));
                },
                {"expected finite queries"}});
  expect_error({"report(patterns, 1, torch::randn({2, 3}, torch::kFloat64))",
                [&] {
                  report(patterns, 1, torch::randn({2, 3}, torch::kFloat64));
                },
                {"of the type and device of the patterns"}});
  expect_error({"query_bounds(patterns, patterns, guarantees(torch::randn({4, 3}), 1))",
                [&] {
                  query_bounds(patterns, patterns, guarantees(torch::randn({4, 3}), 1));
                },
                {"the guarantees of these 5 patterns, got those of 4"}});
  expect_error({"query_bounds(patterns, patterns, Guarantees())",
                [&] { query_bounds(patterns, patterns, Guarantees()); },
                {"the guarantees of these 5 patterns"}});
  expect_error(
      {"run(patterns, 1, patterns, 0)", [&] { run(patterns, 1, patterns, 0); }, {"expected at least 1 update, got 0"}});
}

}  // namespace
