#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace hopfield {

/// One bag of instances with its label, for multiple-instance learning.
struct Bag {
  at::Tensor instances;  ///< [instances, features]
  double label = 0.0;
};

/// Bags of different sizes, concatenated and never padded.
///
///     auto batch = hopfield::BagBatch::from(bags);
///     auto pooled = pool->pool_bags(batch);
struct BagBatch {
  at::Tensor values;   ///< [total, features], the bags' instances one after the other
  at::Tensor offsets;  ///< [bags + 1] int64 on the CPU: bag i holds rows offsets[i] .. offsets[i + 1]
  at::Tensor labels;   ///< [bags] float64, whatever type the values have; or undefined

  /// @throws c10::Error if there is no bag, or if the bags differ in features, dtype or device.
  static BagBatch from(const std::vector<Bag>& bags);
  /// Bags without labels, each [instances, features].
  static BagBatch from(const std::vector<at::Tensor>& bags);

  int64_t size() const { return offsets.numel() - 1; }

  /// Padded with zeros to the largest bag: values [bags, largest, features] and a mask [bags, largest], true at
  /// padding.
  struct Padded {
    at::Tensor values;
    at::Tensor padding_mask;
  };
  Padded padded() const;

  /// Values and labels moved; the offsets stay on the CPU, where they are read.
  BagBatch to(at::Device device) const;
};

/// The best few among the patterns of each bag, or of a memory, in falling order.
struct BestMatches {
  at::Tensor indices;  ///< [bags, k] int64, within the bag; -1 where it has fewer
  at::Tensor values;   ///< [bags, k], what they were chosen by; NaN where the bag has fewer
};

/// The k instances of each bag that have the highest scores: those that decided, by instance_scores().
///
/// @param scores   [total], one number for each instance: of one head and one state pattern, or what is made of several
/// @param offsets  [bags + 1] integers: bag n owns the rows offsets[n] .. offsets[n + 1]
/// @throws c10::Error if scores or offsets have another shape, or if k is not positive.
BestMatches top_instances(const at::Tensor& scores, const at::Tensor& offsets, int64_t k);

/// Number of rows of each bag. @param offsets [bags + 1] @throws c10::Error if they do not start at 0, fall, or do not
/// end at `total`.
std::vector<int64_t> bag_sizes(const at::Tensor& offsets, int64_t total);

/// Ragged rows [total, ...] padded with zeros to [bags, largest, ...].
at::Tensor pad_bags(const at::Tensor& values, const std::vector<int64_t>& sizes);

/// [bags, largest], true where a bag of that size has no row.
at::Tensor padding_mask_of(const std::vector<int64_t>& sizes, at::Device device);

}  // namespace hopfield
