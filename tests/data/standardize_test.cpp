#include "support/errors.h"
#include <hopfield/data/standardize.h>

#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace hopfield::data {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

at::Generator seeded() { return at::make_generator<at::CPUGeneratorImpl>(11); }

TEST(Standardizer, GivesMeanZeroAndDeviationOne) {
  const auto instances =
      torch::randn({200, 5}, seeded(), at::kFloat) * torch::tensor({1e-3f, 1.0f, 50.0f, 1e6f, 7.0f}) + 3;
  const auto standardizer = Standardizer::fit(instances);
  const auto result = standardizer.apply(instances);
  EXPECT_EQ(result.scalar_type(), at::kFloat);
  EXPECT_LT(result.mean(0).abs().max().item<float>(), 1e-4f);
  EXPECT_LT((result.std(0, /*unbiased=*/false) - 1).abs().max().item<float>(), 1e-4f);
  const auto exact = instances.to(at::kDouble);
  EXPECT_TRUE(standardizer.mean.allclose(exact.mean(0), 1e-13, 0));
  EXPECT_TRUE(standardizer.scale.allclose(exact.std(0, /*unbiased=*/false), 1e-12, 0));
}

TEST(Standardizer, ConstantFeaturesBecomeExactlyZero) {
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf}) {
    for (const double value : {0.0, 0.1, -0.3, 1e4, 6e-5}) {
      const auto instances = torch::full({37, 2}, value, at::TensorOptions(type));
      const auto standardizer = Standardizer::fit(instances);
      EXPECT_TRUE(standardizer.scale.eq(1).all().item<bool>());
      EXPECT_TRUE(standardizer.apply(instances).eq(0).all().item<bool>()) << value << " of type " << type;
    }
  }
}

TEST(Standardizer, OneInstanceIsConstant) {
  const auto instances = torch::tensor({{1.0, -2.0}});
  EXPECT_TRUE(Standardizer::fit(instances).apply(instances).eq(0).all().item<bool>());
}

TEST(Standardizer, IsSafeAtTheEdgesOfTheRange) {
  constexpr auto kMost = std::numeric_limits<double>::max(), kLeast = std::numeric_limits<double>::min();
  const auto pair = [](double a, double b) { return torch::tensor({a, b}, at::kDouble).view({2, 1}); };
  const auto signs = pair(-1, 1);
  for (const auto& instances : {pair(-kMost, kMost), pair(kMost / 2, kMost), pair(-1e300, 1e300), pair(-1e-300, 1e-300),
                                pair(-kLeast, kLeast), pair(0, 1e200), pair(1e15, 1e15 + 2)}) {
    const auto result = Standardizer::fit(instances).apply(instances);
    EXPECT_TRUE(result.allclose(signs, 1e-12, 0)) << instances << result;
  }
  const auto tiny = pair(0, std::numeric_limits<double>::denorm_min());
  EXPECT_LE(Standardizer::fit(tiny).apply(tiny).abs().max().item<double>(), 1.0);
  const auto floats = torch::tensor({-3e38f, 3e38f}).view({2, 1});
  EXPECT_TRUE(Standardizer::fit(floats).apply(floats).allclose(signs.to(at::kFloat)));
}

TEST(Standardizer, FitsAllInstancesOfBags) {
  const std::vector<Bag> bags{{torch::randn({3, 4}, seeded(), at::kFloat), 1},
                              {torch::randn({5, 4}, seeded(), at::kFloat) + 2, 0}};
  const auto all = torch::cat({bags[0].instances, bags[1].instances});
  const auto standardizer = Standardizer::fit(bags);
  EXPECT_TRUE(standardizer.mean.equal(Standardizer::fit(all).mean));
  const auto result = standardizer.apply(bags);
  ASSERT_EQ(result.size(), 2u);
  EXPECT_TRUE(torch::cat({result[0].instances, result[1].instances}).equal(standardizer.apply(all)));
  EXPECT_EQ(result[0].label, 1);
}

TEST(Standardizer, LeavesItsInputAlone) {
  const auto instances = torch::randn({6, 2}, seeded(), at::kDouble);
  const auto before = instances.clone();
  Standardizer::fit(instances).apply(instances);
  EXPECT_TRUE(instances.equal(before));
}

TEST(Standardizer, LetsNonFiniteValuesOfNewInstancesShow) {
  const auto standardizer = Standardizer::fit(torch::tensor({{0.0, 0.0}, {1.0, 2.0}}));
  const auto result = standardizer.apply(torch::tensor({{std::nan(""), 1.0}}));
  EXPECT_TRUE(std::isnan(result[0][0].item<double>()));
  EXPECT_EQ(result[0][1].item<double>(), 0);
}

TEST(Standardizer, WithMissingValuesTakesTheOthers) {
  const auto nan = std::nan("");
  const auto instances = torch::tensor({{1.0, nan, 7.0, nan}, {3.0, 4.0, nan, nan}, {nan, 8.0, 7.0, nan}}, at::kDouble);
  const auto standardizer = Standardizer::fit_with_missing(instances);
  EXPECT_TRUE(standardizer.mean.equal(torch::tensor({2.0, 6.0, 7.0, 0.0}, at::kDouble)));
  EXPECT_TRUE(standardizer.scale.equal(torch::tensor({1.0, 2.0, 1.0, static_cast<double>(INFINITY)}, at::kDouble)));
  EXPECT_TRUE(standardizer.apply_with_missing(instances).equal(
      torch::tensor({{-1.0, 0.0, 0.0, 0.0}, {1.0, -1.0, 0.0, 0.0}, {0.0, 1.0, 0.0, 0.0}}, at::kDouble)));
  // A feature that is missing in the whole training part carries no information.
  EXPECT_TRUE(standardizer.apply_with_missing(torch::tensor({{2.0, 6.0, 9.0, 1e6}}))
                  .equal(torch::tensor({{0.0, 0.0, 2.0, 0.0}}, at::kDouble).to(at::kFloat)));
  EXPECT_TRUE(std::isnan(standardizer.apply(instances)[0][1].item<double>()));
}

TEST(Standardizer, WithoutMissingValuesIsTheSame) {
  const auto instances = torch::randn({50, 7}, seeded(), at::kFloat) * torch::logspace(-20, 20, 7, 10.0, at::kFloat);
  const auto one = Standardizer::fit(instances), other = Standardizer::fit_with_missing(instances);
  EXPECT_TRUE(one.mean.equal(other.mean));
  EXPECT_TRUE(one.scale.equal(other.scale));
  EXPECT_TRUE(one.apply(instances).equal(other.apply_with_missing(instances)));
  const std::vector<Bag> bags{{instances, 1}};
  EXPECT_TRUE(Standardizer::fit_with_missing(bags).apply_with_missing(bags)[0].instances.equal(one.apply(instances)));
  EXPECT_THAT(error_of([] {
                Standardizer::fit_with_missing(torch::full({2, 2}, INFINITY));
              }),
              HasSubstr("hopfield::data::Standardizer::fit_with_missing: expected finite instances or NaN"));
  EXPECT_THAT(error_of([] { Standardizer::fit_with_missing(torch::ones({0, 2})); }), HasSubstr("at least one"));
}

TEST(Standardizer, RefusesWhatItCannotUse) {
  const auto fit = [&](const at::Tensor& instances) { return error_of([&] { Standardizer::fit(instances); }); };
  const std::string shape =
      "hopfield::data::Standardizer::fit: expected instances to have shape [n, features] and a "
      "floating-point type, got ";
  EXPECT_EQ(fit(torch::ones({3})), shape + "[3] of type Float");
  EXPECT_EQ(fit(torch::ones({3, 2}, at::kLong)), shape + "[3, 2] of type Long");
  EXPECT_EQ(fit(at::Tensor()), shape + "an undefined tensor");
  EXPECT_THAT(fit(torch::ones({0, 2})), HasSubstr("expected at least one instance, got [0, 2]"));
  EXPECT_THAT(fit(torch::full({2, 2}, NAN)), HasSubstr("expected finite instances"));
  EXPECT_THAT(fit(torch::full({2, 2}, INFINITY)), HasSubstr("expected finite instances"));
  EXPECT_THAT(error_of([] { Standardizer::fit(std::vector<Bag>{}); }), HasSubstr("expected at least one bag"));
  EXPECT_THAT(error_of([] { Standardizer().apply(torch::ones({1, 1})); }), HasSubstr("call fit() first"));
  const auto standardizer = Standardizer::fit(torch::rand({4, 3}));
  EXPECT_THAT(error_of([&] {
                standardizer.apply(torch::ones({2, 4}));
              }),
              HasSubstr("expected instances to have 3 features like mean and scale, got [2, 4]"));
}

}  // namespace
}  // namespace hopfield::data
