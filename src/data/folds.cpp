#include "data/numbers.h"
#include <hopfield/data/folds.h>

#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <utility>

namespace hopfield::data {
namespace {

/// The members of each class, by its label.
using Classes = std::map<double, std::vector<int64_t>>;

Classes classes_of(const std::vector<double>& labels, int64_t folds) {
  constexpr auto* kFunction = "hopfield::data::stratified_folds";
  Classes classes;
  for (size_t i = 0; i < labels.size(); ++i) classes[labels[i]].push_back(static_cast<int64_t>(i));
  TORCH_CHECK(folds >= 2, kFunction, ": expected at least 2 folds, got ", folds);
  TORCH_CHECK(classes.size() >= 2, kFunction, ": expected labels of at least 2 classes, got ", classes.size());
  const auto& [label, members] = *std::min_element(
      classes.begin(), classes.end(), [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  TORCH_CHECK(folds <= static_cast<int64_t>(members.size()), kFunction, ": expected at most ", members.size(),
              " folds, the members of class ", label, ", got ", folds);
  return classes;
}

/// A uniform random number below `bound`. The distributions and std::shuffle of the standard library may not be used:
/// they differ between platforms.
uint64_t uniform_below(uint64_t bound, std::mt19937_64& engine) {
  const auto rest = (std::numeric_limits<uint64_t>::max() % bound + 1) % bound;  // 2^64 mod bound
  auto draw = engine();
  while (draw > std::numeric_limits<uint64_t>::max() - rest) draw = engine();
  return draw % bound;
}

void shuffle(std::vector<int64_t>& values, std::mt19937_64& engine) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[uniform_below(i, engine)]);
}

std::vector<Fold> folds_from(Classes classes, int64_t total, int64_t folds, std::mt19937_64& engine) {
  // The members are dealt to the folds in turn, like cards. Each class starts at the fold where the one before stopped:
  // that keeps both the sizes of the folds and their counts of each class even.
  std::vector<int64_t> fold_of(total);
  int64_t dealt = 0;
  for (auto& [label, members] : classes) {
    shuffle(members, engine);
    for (const auto member : members) fold_of[member] = dealt++ % folds;
  }
  std::vector<Fold> result(folds);
  for (int64_t i = 0; i < total; ++i) {
    for (int64_t fold = 0; fold < folds; ++fold) {
      (fold == fold_of[i] ? result[fold].test : result[fold].train).push_back(i);
    }
  }
  return result;
}

}  // namespace

std::vector<Fold> stratified_folds(const at::Tensor& labels, int64_t folds, uint64_t seed) {
  return std::move(repeated_stratified_folds(labels, folds, 1, seed).front());
}

std::vector<std::vector<Fold>> repeated_stratified_folds(const at::Tensor& labels, int64_t folds, int64_t repeats,
                                                         uint64_t seed) {
  TORCH_CHECK(repeats >= 1, "hopfield::data::repeated_stratified_folds: expected at least 1 repeat, got ", repeats);
  const auto numbers = detail::numbers_of(labels, "hopfield::data::stratified_folds", "labels");
  const auto classes = classes_of(numbers, folds);
  std::mt19937_64 engine(seed);
  std::vector<std::vector<Fold>> result;
  for (int64_t i = 0; i < repeats; ++i) {
    result.push_back(folds_from(classes, static_cast<int64_t>(numbers.size()), folds, engine));
  }
  return result;
}

}  // namespace hopfield::data
