#include "support/errors.h"
#include <hopfield/data/metrics.h>

#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace hopfield::data {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

double auc_by_pairs(const std::vector<double>& scores, const std::vector<double>& labels) {
  double won = 0, pairs = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    for (size_t j = 0; j < scores.size(); ++j) {
      if (labels[i] != 1 || labels[j] != 0) continue;
      won += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
      ++pairs;
    }
  }
  return won / pairs;
}

TEST(RocAuc, EqualsTheCountOfPairs) {
  std::mt19937_64 engine(5);
  for (int round = 0; round < 300; ++round) {
    const auto total = 2 + engine() % 60, values = 1 + engine() % 20;  // few values: many ties
    std::vector<double> scores, labels;
    for (uint64_t i = 0; i < total; ++i) {
      scores.push_back(static_cast<double>(engine() % values) / 7 - 1);
      labels.push_back(i < 2 ? static_cast<double>(i) : static_cast<double>(engine() % 2));
    }
    ASSERT_EQ(roc_auc(torch::tensor(scores, at::kDouble), torch::tensor(labels, at::kDouble)),
              auc_by_pairs(scores, labels));
  }
}

TEST(RocAuc, KnownValues) {
  const auto labels = torch::tensor({0, 0, 1, 1});
  EXPECT_EQ(roc_auc(torch::tensor({0.1, 0.4, 0.35, 0.8}), labels), 0.75);
  EXPECT_EQ(roc_auc(torch::tensor({1, 2, 3, 4}), labels), 1.0);
  EXPECT_EQ(roc_auc(torch::tensor({4, 3, 2, 1}), labels), 0.0);
  EXPECT_EQ(roc_auc(torch::zeros({4}), labels), 0.5);
  EXPECT_EQ(roc_auc(torch::tensor({-HUGE_VAL, 0.0, 0.0, HUGE_VAL}), labels), 0.875);
  EXPECT_EQ(roc_auc(torch::tensor({-0.0, 0.0}), torch::tensor({0, 1})), 0.5);
}

TEST(RocAuc, AcceptsAnyRealTypeAndLayout) {
  const auto labels = torch::tensor({0, 1, 0, 1, 1});
  const auto scores = torch::tensor({1.0, 2.0, 3.0, 4.0, 5.0});
  const auto expected = roc_auc(scores, labels);
  EXPECT_EQ(roc_auc(scores.to(at::kHalf), labels.to(at::kBool)), expected);
  EXPECT_EQ(roc_auc(torch::stack({scores, -scores}, 1).select(1, 0), labels.to(at::kFloat)), expected);
  EXPECT_EQ(roc_auc(scores.clone().requires_grad_(), labels), expected);
}

TEST(RocAuc, IsExactForManyExamples) {
  constexpr int64_t kTotal = 200000;
  const auto scores = torch::arange(kTotal, at::kDouble);
  const auto labels = torch::arange(kTotal).remainder(2);  // each positive beats one negative more than the last
  const double half = kTotal / 2;
  EXPECT_EQ(roc_auc(scores, labels), (half * (half + 1) / 2) / (half * half));
}

TEST(Accuracy, CountsScoresThatReachTheThreshold) {
  const auto scores = torch::tensor({0.2, 0.5, 0.7, 0.4});
  const auto labels = torch::tensor({0, 1, 0, 1});
  EXPECT_EQ(accuracy(scores, labels), 0.5);
  EXPECT_EQ(accuracy(scores, labels, 0.4), 0.75);
  EXPECT_EQ(accuracy(torch::tensor({-1.0, 2.0}), torch::tensor({0, 1}), 0.0), 1.0);
  EXPECT_EQ(accuracy(scores, torch::ones({4}), -INFINITY), 1.0);
}

TEST(Metrics, RefuseWhatHasNoValue) {
  const auto scores = torch::tensor({0.1, 0.2, 0.3});
  const auto auc = [&](const at::Tensor& s, const at::Tensor& l) { return error_of([&] { roc_auc(s, l); }); };
  EXPECT_EQ(auc(scores, torch::ones({3})),
            "hopfield::data::roc_auc: expected examples of both classes, got 3 positive and 0 negative ones");
  EXPECT_THAT(auc(scores, torch::zeros({3})), HasSubstr("got 0 positive and 3 negative ones"));
  EXPECT_THAT(auc(torch::ones({0}), torch::ones({0})), HasSubstr("got 0 positive and 0 negative ones"));
  EXPECT_EQ(auc(torch::tensor({0.0, std::nan("")}), torch::tensor({0, 1})),
            "hopfield::data::roc_auc: expected scores without NaN, got one at position 1");
  EXPECT_EQ(auc(scores, torch::tensor({0, 1, 2})),
            "hopfield::data::roc_auc: expected labels 0 and 1, got 2 at position 2; use binary_labels()");
  EXPECT_THAT(auc(scores, torch::tensor({-1, 1, 1})), HasSubstr("got -1 at position 0"));
  EXPECT_EQ(auc(scores, torch::tensor({0, 1})),
            "hopfield::data::roc_auc: expected one label for each of 3 scores, got 2");
  EXPECT_THAT(auc(scores.view({3, 1}), torch::tensor({0, 1, 1})),
              HasSubstr("expected scores to be real numbers of shape"));
  EXPECT_THAT(auc(scores.to(at::kComplexDouble), torch::tensor({0, 1, 1})), HasSubstr("of type ComplexDouble"));
  EXPECT_THAT(error_of([&] { accuracy(torch::ones({0}), torch::ones({0})); }),
              HasSubstr("expected at least one example"));
  EXPECT_THAT(error_of([&] { accuracy(scores, torch::ones({3}), NAN); }), HasSubstr("expected threshold"));
}

}  // namespace
}  // namespace hopfield::data
