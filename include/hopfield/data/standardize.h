#pragma once

#include <hopfield/core/bags.h>

#include <ATen/core/Tensor.h>

#include <vector>

namespace hopfield::data {

/// Shifts and scales features to mean 0 and standard deviation 1: (x - mean) / scale, for each feature by itself.
/// Fit it to the training part only; both tensors belong to the model and can be saved with it.
///
///     auto standardizer = hopfield::data::Standardizer::fit(training_bags);
///     auto bags = standardizer.apply(test_bags);
struct Standardizer {
  at::Tensor mean;  ///< [features] float64
  at::Tensor
      scale;  ///< [features] float64: the standard deviation (of the n instances, not n - 1), 1 for constant ones

  /// Computed in float64 and free of overflow and underflow: features of any magnitude come out right, and constant
  /// ones become exactly 0.
  /// @param instances  [n, features] of floating-point type, finite, n at least 1
  /// @throws c10::Error if they are not.
  static Standardizer fit(const at::Tensor& instances);
  /// To all instances of the bags.
  static Standardizer fit(const std::vector<Bag>& bags);

  /// fit() where NaN stands for a value that is missing: mean and scale are those of the values that are there. A
  /// feature without any value gets mean 0 and an infinite scale, by which apply() turns it into 0.
  /// @throws c10::Error as fit(), but for NaN.
  static Standardizer fit_with_missing(const at::Tensor& instances);
  static Standardizer fit_with_missing(const std::vector<Bag>& bags);

  /// [n, features], in the type of the instances.
  at::Tensor apply(const at::Tensor& instances) const;
  std::vector<Bag> apply(std::vector<Bag> bags) const;

  /// apply() with the mean, which becomes 0, in place of each NaN.
  at::Tensor apply_with_missing(const at::Tensor& instances) const;
  std::vector<Bag> apply_with_missing(std::vector<Bag> bags) const;
};

}  // namespace hopfield::data
