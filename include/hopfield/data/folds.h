#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace hopfield::data {

/// One split of a data set into a training part and a test part: positions of the examples, ascending.
struct Fold {
  std::vector<int64_t> train;
  std::vector<int64_t> test;
};

/// Stratified folds for cross-validation: each position is in the test part of exactly one fold, and the test parts
/// differ by at most 1 in their sizes and in their counts of each class. The same seed gives the same folds on every
/// platform.
///
///     for (const auto& fold : hopfield::data::stratified_folds(table.labels(), 10, seed)) ...
///
/// @param labels  class numbers [n] of any real dtype, of at least 2 classes
/// @param folds   at least 2, and at most the number of members of the rarest class
/// @throws c10::Error if one of these does not hold.
std::vector<Fold> stratified_folds(const at::Tensor& labels, int64_t folds, uint64_t seed);

/// Draws `repeats` sets of folds, one after the other. The first is that of stratified_folds() with the same seed.
/// @throws c10::Error as stratified_folds(), or if `repeats` is not positive.
std::vector<std::vector<Fold>> repeated_stratified_folds(const at::Tensor& labels, int64_t folds, int64_t repeats,
                                                         uint64_t seed);

}  // namespace hopfield::data
