#include "support/errors.h"
#include <hopfield/theory/separation.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace {

using namespace hopfield::theory;
using hopfield::testing::expect_error;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(PatternSeparation, IsTheLeastDifferenceOfProducts) {
  torch::manual_seed(0);
  for (const auto type : {torch::kFloat32, torch::kFloat64}) {
    for (const int64_t count : {2, 3, 50, 5000}) {
      const auto patterns = torch::randn({count, 7}, type);
      const auto exact = patterns.to(torch::kFloat64);
      auto products = exact.mm(exact.t());
      const auto own = products.diagonal().clone();
      products.fill_diagonal_(-kInfinity);
      const auto [most, nearest] = products.max(1);
      const auto separation = pattern_separation(patterns);
      EXPECT_TRUE(separation.delta.allclose(own - most, 1e-12, 1e-12)) << count;
      EXPECT_TRUE(separation.nearest.equal(nearest)) << count;
      EXPECT_NEAR(separation.largest_norm, own.max().sqrt().item<double>(), 1e-12);
    }
  }
}

TEST(PatternSeparation, IsExactlyZeroForEqualPatterns) {
  torch::manual_seed(1);
  auto patterns = torch::randn({300, 5});
  patterns[7].mul_(3);  // so long that no other pattern has a larger product with it
  patterns[200].copy_(patterns[7]);
  const auto separation = pattern_separation(patterns);
  EXPECT_EQ(separation.delta[7].item<double>(), 0.0);
  EXPECT_EQ(separation.delta[200].item<double>(), 0.0);
  EXPECT_EQ(separation.nearest[7].item<int64_t>(), 200);
  EXPECT_EQ(separation.nearest[200].item<int64_t>(), 7);
  EXPECT_EQ(separating_betas(separation)[7].item<double>(), kInfinity);
}

TEST(PatternSeparation, OfManyEqualPatternsIsZero) {
  const auto separation = pattern_separation(torch::ones({20, 3}));
  EXPECT_TRUE(separation.delta.eq(0).all().item<bool>());
  EXPECT_TRUE(separation.nearest.ne(torch::arange(20)).all().item<bool>());
}

TEST(RequiredSeparation, IsTheFormulaOfThePaper) {
  EXPECT_DOUBLE_EQ(required_separation(10, 2.0, 3.0), 2 / 20.0 + std::log(2.0 * 9 * 10 * 2 * 9) / 2);
  EXPECT_DOUBLE_EQ(sphere_radius(10, 2.0, 3.0), 1 / 60.0);
}

TEST(SeparatingBeta, IsTheSmallestFromWhichOnThePatternIsWellSeparated) {
  for (const int64_t count : {2, 20, 100000}) {
    for (const double norm : {0.1, 1.0, 50.0}) {
      for (const double delta : {1e-6, 0.01, 1.0, 100.0}) {
        const auto beta = separating_beta(delta, count, norm);
        if (beta == 0) {
          for (double tried = 1e-9; tried < 1e9; tried *= 1.1)
            EXPECT_GE(delta, required_separation(count, tried, norm));
          continue;
        }
        EXPECT_LT(delta, required_separation(count, beta * (1 - 1e-9), norm)) << count << " " << norm << " " << delta;
        for (double factor = 1; factor < 1e6; factor *= 1.5) {
          EXPECT_GE(delta * (1 + 1e-12), required_separation(count, beta * factor, norm));
        }
      }
    }
  }
  EXPECT_EQ(separating_beta(0, 10, 1), kInfinity);
  EXPECT_EQ(separating_beta(-1, 10, 1), kInfinity);
}

TEST(PatternSeparation, RefusesWhatIsNoSet) {
  expect_error({"pattern_separation(torch::ones({1, 4}))",
                [&] {
                  pattern_separation(torch::ones({1, 4}));
                },
                {"expected at least 2 patterns [N, d], got a tensor of the shape [1, 4]"}});
  expect_error({"pattern_separation(torch::ones({4}))",
                [&] { pattern_separation(torch::ones({4})); },
                {"expected at least 2 patterns [N, d]"}});
  expect_error({"pattern_separation(torch::full({3, 2}, NAN))",
                [&] {
                  pattern_separation(torch::full({3, 2}, NAN));
                },
                {"finite"}});
  expect_error({"pattern_separation(torch::ones({3, 2}, torch::kLong))",
                [&] {
                  pattern_separation(torch::ones({3, 2}, torch::kLong));
                },
                {"Float or Double"}});
  expect_error(
      {"required_separation(1, 1, 1)", [&] { required_separation(1, 1, 1); }, {"expected at least 2 patterns, got 1"}});
  expect_error({"required_separation(2, 0, 1)",
                [&] { required_separation(2, 0, 1); },
                {"expected a positive and finite beta, got 0"}});
  expect_error({"required_separation(2, -1, 1)",
                [&] { required_separation(2, -1, 1); },
                {"expected a positive and finite beta, got -1"}});
  expect_error({"required_separation(2, 1, 0)",
                [&] { required_separation(2, 1, 0); },
                {"positive and finite largest norm, got 0"}});
  expect_error(
      {"sphere_radius(2, NAN, 1)", [&] { sphere_radius(2, NAN, 1); }, {"expected a positive and finite beta"}});
  expect_error(
      {"separating_beta(NAN, 2, 1)", [&] { separating_beta(NAN, 2, 1); }, {"expected a number as separation"}});
}

}  // namespace
