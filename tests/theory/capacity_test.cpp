#include "support/errors.h"
#include <hopfield/theory/capacity.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace {

using namespace hopfield::theory;
using hopfield::testing::expect_error;

TEST(Lambert, SolvesItsEquation) {
  const auto check = [](double x) {
    const double w = lambert_w0(x);
    EXPECT_GE(w, -1);
    EXPECT_NEAR(w * std::exp(w) / x, 1, 1e-14) << x;
  };
  for (double x = 1e-300; x < 1e6; x *= 1.37) check(x);
  for (double x = -1e-300; x > -0.367; x *= 1.09) check(x);
  for (double gap = 1e-16; gap < 0.1; gap *= 1.5) check(-1 / std::exp(1.0) + gap);
  EXPECT_EQ(lambert_w0(0), 0);
  EXPECT_NEAR(lambert_w0(1), 0.5671432904097838, 1e-15);
  EXPECT_NEAR(lambert_w0(std::exp(1.0)), 1, 1e-15);
  EXPECT_TRUE(std::isnan(lambert_w0(-0.4)));
  // exp(w) of a large w multiplies the rounding of w by w: w + ln(w) = ln(x) has to hold instead.
  for (double y = -700; y < 1e15; y = y < 1 ? y + 0.7 : y * 1.3) {
    const double w = lambert_w0_of_exp(y);
    EXPECT_NEAR(w + std::log(w), y, 1e-14 * std::max(1.0, std::abs(y))) << y;
  }
}

TEST(SphereCapacity, HasThePublishedConstants) {
  const auto first = sphere_capacity(1, 3, 20, 0.001), second = sphere_capacity(1, 1, 75, 0.001);
  EXPECT_EQ(std::floor(first.c * 1e4), 31546);  // the paper cuts digits off
  EXPECT_EQ(std::floor(second.c * 1e4), 13718);
  EXPECT_TRUE(first.is_guaranteed() && second.is_guaranteed());
  EXPECT_NEAR(first.log_patterns, 0.5 * std::log(0.001) + 19 / 4.0 * std::log(first.c), 1e-12);
  const auto none = sphere_capacity(0.01, 1, 20, 0.001);
  EXPECT_FALSE(none.is_guaranteed());
  EXPECT_TRUE(std::isnan(none.log_patterns));
  EXPECT_TRUE(std::isfinite(sphere_capacity(1e300, 1, 2, 0.5).c));
}

TEST(Capacity, HasTheKnownValues) {
  EXPECT_NEAR((1 - overlap_of_binary_network(0.13)) / 2, 0.00639, 1e-5);
  EXPECT_EQ(overlap_of_binary_network(0.14), 0);
  EXPECT_NEAR((1 - overlap_of_binary_network(0.1)) / 2, 0.0010, 1e-5);
  EXPECT_DOUBLE_EQ(capacity_of_binary_network(1000), 138);
  EXPECT_NEAR(errorless_capacity_of_binary_network(1000), 36.19, 0.01);
  EXPECT_NEAR(capacity_of_polynomial_memory(2, 2000), 301.4, 0.1);
  EXPECT_NEAR(bit_error_of_polynomial_memory(3, capacity_of_polynomial_memory(3, 120), 120), 0.005, 1e-5);
  EXPECT_NEAR(errorless_capacity_of_polynomial_memory(2, 1000), 1000 / (2 * std::log(1000.0)), 1e-9);
  EXPECT_NEAR(log_capacity_of_exponential_memory(40), 20 * std::log(2.0), 1e-12);
  EXPECT_NEAR(log_capacity_of_exponential_memory(10, 0.1) / std::log(2.0), 2.655, 1e-3);
  for (const auto& [beta, load] : {std::pair{0.5, 0.38701}, {1.0, 0.62257}, {2.0, 0.90875}, {4.0, 1.22436}}) {
    EXPECT_NEAR(load_of_continuous_memory(beta), load, 1e-5);
  }
  for (const auto& [width, load] : {std::pair{16, 0.5270}, {20, 0.5298}, {24, 0.5352}}) {
    EXPECT_NEAR(load_of_continuous_memory(1.0, width), load, 1e-4);
  }
}

TEST(Capacity, RefusesWhatIsOutOfRange) {
  expect_error({"sphere_capacity(1, 1, 20, 0)",
                [&] { sphere_capacity(1, 1, 20, 0); },
                {"expected a probability of failure between 0 and 1, got 0"}});
  expect_error({"sphere_capacity(1, 1, 20, 1)", [&] { sphere_capacity(1, 1, 20, 1); }, {"between 0 and 1, got 1"}});
  expect_error({"sphere_capacity(1, 1, 20, NAN)", [&] { sphere_capacity(1, 1, 20, NAN); }, {"between 0 and 1"}});
  expect_error({"sphere_capacity(0, 1, 20)",
                [&] { sphere_capacity(0, 1, 20); },
                {"expected a positive and finite beta, got 0"}});
  expect_error({"sphere_capacity(1, 0, 20)",
                [&] { sphere_capacity(1, 0, 20); },
                {"expected a positive factor K of the norm, got 0"}});
  expect_error(
      {"sphere_capacity(1, 1, 1)", [&] { sphere_capacity(1, 1, 1); }, {"expected at least 2 dimensions, got 1"}});
  expect_error(
      {"overlap_of_binary_network(0)", [&] { overlap_of_binary_network(0); }, {"expected a positive load, got 0"}});
  expect_error({"capacity_of_polynomial_memory(1, 10)",
                [&] { capacity_of_polynomial_memory(1, 10); },
                {"expected a degree of at least 2, got 1"}});
  expect_error({"errorless_capacity_of_binary_network(1)",
                [&] { errorless_capacity_of_binary_network(1); },
                {"expected at least 2 neurons, got 1"}});
  expect_error({"log_capacity_of_exponential_memory(10, 0.5)",
                [&] { log_capacity_of_exponential_memory(10, 0.5); },
                {"from 0 to below 0.5, got 0.5"}});
  expect_error({"bit_error_of_polynomial_memory(2, 0, 10)",
                [&] { bit_error_of_polynomial_memory(2, 0, 10); },
                {"expected a positive number of patterns, got 0"}});
  expect_error({"load_of_continuous_memory(-1)",
                [&] { load_of_continuous_memory(-1); },
                {"expected a positive and finite beta, got -1"}});
  expect_error({"load_of_continuous_memory(1, 1)",
                [&] { load_of_continuous_memory(1, 1); },
                {"expected at least 2 dimensions, got 1"}});
}

}  // namespace
