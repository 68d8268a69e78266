#include "data/numbers.h"
#include <hopfield/data/metrics.h>

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace hopfield::data {
namespace {

struct Example {
  double score;
  bool positive;
};

std::vector<Example> examples_of(const at::Tensor& scores, const at::Tensor& labels, const char* function) {
  const auto score = detail::numbers_of(scores, function, "scores");
  const auto label = detail::numbers_of(labels, function, "labels");
  TORCH_CHECK(score.size() == label.size(), function, ": expected one label for each of ", score.size(),
              " scores, got ", label.size());
  std::vector<Example> examples;
  examples.reserve(score.size());
  for (size_t i = 0; i < score.size(); ++i) {
    TORCH_CHECK(label[i] == 0 || label[i] == 1, function, ": expected labels 0 and 1, got ", label[i], " at position ",
                i, "; use binary_labels()");
    examples.push_back({score[i], label[i] == 1});
  }
  return examples;
}

}  // namespace

double roc_auc(const at::Tensor& scores, const at::Tensor& labels) {
  auto examples = examples_of(scores, labels, "hopfield::data::roc_auc");
  std::sort(examples.begin(), examples.end(), [](const auto& a, const auto& b) { return a.score < b.score; });
  int64_t positives = 0, negatives = 0;
  int64_t double_wins = 0;  // two for each pair that the positive example wins and one for a tie: whole numbers
  for (size_t begin = 0; begin < examples.size();) {
    int64_t tied_positives = 0, tied_negatives = 0;
    auto end = begin;
    for (; end < examples.size() && examples[end].score == examples[begin].score; ++end) {
      ++(examples[end].positive ? tied_positives : tied_negatives);
    }
    double_wins += tied_positives * (2 * negatives + tied_negatives);
    positives += tied_positives;
    negatives += tied_negatives;
    begin = end;
  }
  TORCH_CHECK(positives > 0 && negatives > 0, "hopfield::data::roc_auc: expected examples of both classes, got ",
              positives, " positive and ", negatives, " negative ones");
  return static_cast<double>(double_wins) / (2.0 * static_cast<double>(positives) * static_cast<double>(negatives));
}

double accuracy(const at::Tensor& scores, const at::Tensor& labels, double threshold) {
  constexpr auto* kFunction = "hopfield::data::accuracy";
  TORCH_CHECK(!std::isnan(threshold), kFunction, ": expected threshold to be a number, got NaN");
  const auto examples = examples_of(scores, labels, kFunction);
  TORCH_CHECK(!examples.empty(), kFunction, ": expected at least one example, got none");
  const auto right = std::count_if(examples.begin(), examples.end(), [&](const auto& example) {
    return (example.score >= threshold) == example.positive;
  });
  return static_cast<double>(right) / static_cast<double>(examples.size());
}

}  // namespace hopfield::data
