#pragma once

#include <hopfield/core/bags.h>

#include <ATen/core/Tensor.h>

#include <vector>

namespace hopfield::data {

/// Shifts and scales each feature to mean 0 and standard deviation 1: (x - mean) / scale. Fit it to the training part
/// only. Both tensors belong to the model and should be saved with it.
///
///     auto standardizer = hopfield::data::Standardizer::fit(training_bags);
///     auto bags = standardizer.apply(test_bags);
struct Standardizer {
  /// [features] float64
  at::Tensor mean;
  /// [features] float64: the standard deviation with divisor n, not n - 1; 1 for constant features.
  at::Tensor scale;

  /// Computes mean and standard deviation in float64, without overflow or underflow for features of any magnitude.
  /// apply() then turns constant features into exact zeros.
  /// @param instances  [n, features] of a floating-point dtype, finite, n at least 1
  /// @throws c10::Error if the instances are anything else.
  static Standardizer fit(const at::Tensor& instances);
  /// The same for the instances of all bags.
  static Standardizer fit(const std::vector<Bag>& bags);

  /// fit() for instances in which NaN stands for a missing value: mean and scale are those of the values that are
  /// there. A feature without any value gets the mean 0 and an infinite scale, so that apply() turns it into 0.
  /// @throws c10::Error as fit(), except that NaN is allowed.
  static Standardizer fit_with_missing(const at::Tensor& instances);
  static Standardizer fit_with_missing(const std::vector<Bag>& bags);

  /// (x - mean) / scale: [n, features] to [n, features] of the same dtype.
  /// @throws c10::Error if the instances have another shape or another number of features, or are not floating-point.
  at::Tensor apply(const at::Tensor& instances) const;
  std::vector<Bag> apply(std::vector<Bag> bags) const;

  /// apply(), with the mean in place of each NaN; it becomes 0.
  at::Tensor apply_with_missing(const at::Tensor& instances) const;
  std::vector<Bag> apply_with_missing(std::vector<Bag> bags) const;
};

}  // namespace hopfield::data
