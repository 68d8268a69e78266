#include "support/errors.h"
#include <hopfield/data/folds.h>

#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

namespace hopfield::data {
namespace {

using ::testing::ElementsAre;
using testing::error_of;

std::map<double, int64_t> counts_of(const std::vector<double>& labels, const std::vector<int64_t>& positions) {
  std::map<double, int64_t> counts;
  for (const auto label : labels) counts[label] += 0;
  for (const auto position : positions) ++counts[labels[position]];
  return counts;
}

void expect_even(const std::vector<int64_t>& numbers) {
  const auto [least, most] = std::minmax_element(numbers.begin(), numbers.end());
  EXPECT_LE(*most - *least, 1);
}

void expect_partition(const std::vector<Fold>& folds, int64_t total) {
  std::vector<int64_t> tested;
  for (const auto& fold : folds) {
    EXPECT_TRUE(std::is_sorted(fold.train.begin(), fold.train.end()));
    EXPECT_TRUE(std::is_sorted(fold.test.begin(), fold.test.end()));
    std::set<int64_t> all(fold.train.begin(), fold.train.end());
    all.insert(fold.test.begin(), fold.test.end());
    EXPECT_EQ(all.size(), static_cast<size_t>(total));
    EXPECT_EQ(fold.train.size() + fold.test.size(), static_cast<size_t>(total));
    tested.insert(tested.end(), fold.test.begin(), fold.test.end());
  }
  std::sort(tested.begin(), tested.end());
  for (int64_t i = 0; i < total; ++i) ASSERT_EQ(tested.at(i), i);
  EXPECT_EQ(tested.size(), static_cast<size_t>(total));
}

TEST(StratifiedFolds, SpreadClassesAndSizesEvenly) {
  std::mt19937_64 engine(7);
  int checked = 0;
  for (int round = 0; round < 500; ++round) {
    const auto classes = 2 + engine() % 4, folds = 2 + engine() % 9, total = 20 + engine() % 150;
    std::vector<double> labels;
    for (uint64_t i = 0; i < total; ++i) labels.push_back(static_cast<double>(engine() % classes) - 1);
    std::vector<int64_t> everything(total);
    for (uint64_t i = 0; i < total; ++i) everything[i] = static_cast<int64_t>(i);
    const auto class_counts = counts_of(labels, everything);
    if (std::any_of(class_counts.begin(), class_counts.end(),
                    [&](const auto& entry) { return entry.second < static_cast<int64_t>(folds); }) ||
        class_counts.size() < 2) {
      continue;
    }
    const auto result = stratified_folds(torch::tensor(labels, at::kDouble), static_cast<int64_t>(folds), engine());
    ASSERT_EQ(result.size(), folds);
    expect_partition(result, static_cast<int64_t>(total));
    std::map<double, std::vector<int64_t>> per_class;
    std::vector<int64_t> sizes;
    for (const auto& fold : result) {
      sizes.push_back(static_cast<int64_t>(fold.test.size()));
      for (const auto& [label, count] : counts_of(labels, fold.test)) per_class[label].push_back(count);
    }
    expect_even(sizes);
    for (const auto& [label, counts] : per_class) expect_even(counts);
    ++checked;
  }
  EXPECT_GT(checked, 200);
}

TEST(StratifiedFolds, AreTheSameOnEveryPlatform) {
  const auto folds = stratified_folds(torch::tensor({0, 1, 0, 1, 0, 1, 0, 1, 0}), 3, 42);
  EXPECT_THAT(folds[0].test, ElementsAre(0, 1, 4));
  EXPECT_THAT(folds[1].test, ElementsAre(2, 5, 6));
  EXPECT_THAT(folds[2].test, ElementsAre(3, 7, 8));
}

TEST(StratifiedFolds, DependOnTheSeedOnly) {
  const auto labels = torch::arange(100).remainder(2);
  const auto tests_of = [&](uint64_t seed) {
    std::vector<std::vector<int64_t>> tests;
    for (const auto& fold : stratified_folds(labels, 5, seed)) tests.push_back(fold.test);
    return tests;
  };
  EXPECT_EQ(tests_of(1), tests_of(1));
  EXPECT_NE(tests_of(1), tests_of(2));
}

TEST(StratifiedFolds, AcceptLabelsOfAnyType) {
  const auto labels = torch::tensor({0, 1, 0, 1, 1, 0});
  const auto expected = stratified_folds(labels, 3, 5)[0].test;
  for (const auto type : {at::kBool, at::kByte, at::kFloat, at::kDouble, at::kHalf}) {
    EXPECT_EQ(stratified_folds(labels.to(type), 3, 5)[0].test, expected) << type;
  }
}

TEST(StratifiedFolds, RepeatsDifferAndBeginWithTheSingleSet) {
  const auto labels = torch::arange(60).remainder(3);
  const auto repeats = repeated_stratified_folds(labels, 4, 5, 9);
  ASSERT_EQ(repeats.size(), 5u);
  std::set<std::vector<int64_t>> first_tests;
  for (const auto& folds : repeats) {
    expect_partition(folds, 60);
    first_tests.insert(folds[0].test);
  }
  EXPECT_EQ(first_tests.size(), 5u);
  EXPECT_EQ(repeats[0][0].test, stratified_folds(labels, 4, 9)[0].test);
}

TEST(StratifiedFolds, EachMemberIsInEachFoldEquallyOften) {
  const auto labels = torch::tensor({0, 0, 0, 0, 1, 1, 1, 1});
  std::map<int64_t, int64_t> in_first;
  constexpr int64_t kRepeats = 4000;
  for (const auto& folds : repeated_stratified_folds(labels, 2, kRepeats, 3)) {
    for (const auto position : folds[0].test) ++in_first[position];
  }
  for (int64_t i = 0; i < 8; ++i) EXPECT_NEAR(in_first[i], kRepeats / 2, 5 * std::sqrt(kRepeats / 4.0));
}

TEST(StratifiedFolds, RefuseWhatCannotBeSplit) {
  const auto message = [](const at::Tensor& labels, int64_t folds, int64_t repeats = 1) {
    return error_of([&] { repeated_stratified_folds(labels, folds, repeats, 0); });
  };
  const auto labels = torch::tensor({0, 1, 0, 1, 0});
  const std::string function = "hopfield::data::stratified_folds: ";
  EXPECT_EQ(message(labels, 1), function + "expected at least 2 folds, got 1");
  EXPECT_EQ(message(labels, -3), function + "expected at least 2 folds, got -3");
  EXPECT_EQ(message(labels, 3), function + "expected at most 2 folds, the members of class 1, got 3");
  EXPECT_EQ(message(torch::tensor({5, 5, 5, 3, 3, 3, 3, 4, 4}), 4),
            function + "expected at most 2 folds, the members of class 4, got 4");
  EXPECT_EQ(message(torch::ones({6}), 2), function + "expected labels of at least 2 classes, got 1");
  EXPECT_EQ(message(torch::ones({0}), 2), function + "expected labels of at least 2 classes, got 0");
  EXPECT_EQ(message(torch::tensor({0.0, std::nan("")}), 2),
            function + "expected labels without NaN, got one at position 1");
  EXPECT_EQ(message(torch::ones({2, 3}), 2),
            function + "expected labels to be real numbers of shape [n], got [2, 3] of type Float");
  EXPECT_EQ(message(labels, 2, 0), "hopfield::data::repeated_stratified_folds: expected at least 1 repeat, got 0");
}

}  // namespace
}  // namespace hopfield::data
