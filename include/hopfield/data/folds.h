#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace hopfield::data {

/// Positions of one split into training and test part, ascending.
struct Fold {
  std::vector<int64_t> train;
  std::vector<int64_t> test;
};

/// Folds for cross-validation with the classes spread evenly: each position is in the test part of exactly one fold,
/// and between folds the test parts' sizes, and their counts of each class, differ by at most 1. The same seed gives
/// the same folds on every platform.
///
///     for (const auto& fold : hopfield::data::stratified_folds(table.labels(), 10, seed)) ...
///
/// @param labels  class numbers [n] of any real type, at least 2 classes
/// @param folds   at least 2, at most the members of the rarest class
/// @throws c10::Error saying which of these does not hold.
std::vector<Fold> stratified_folds(const at::Tensor& labels, int64_t folds, uint64_t seed);

/// `repeats` independent sets of folds; the first is that of stratified_folds().
std::vector<std::vector<Fold>> repeated_stratified_folds(const at::Tensor& labels, int64_t folds, int64_t repeats,
                                                         uint64_t seed);

}  // namespace hopfield::data
