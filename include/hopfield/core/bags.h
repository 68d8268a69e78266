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
  at::Tensor values;   ///< [total, features], the instances of all bags one after the other
  at::Tensor offsets;  ///< [bags + 1] int64 on the CPU: bag i owns the rows offsets[i] .. offsets[i + 1]
  at::Tensor labels;   ///< [bags] float64, whatever the dtype of the values; or undefined

  /// @throws c10::Error if there is no bag, or if the bags differ in features, dtype or device.
  static BagBatch from(const std::vector<Bag>& bags);
  /// The same for bags without labels, each [instances, features].
  static BagBatch from(const std::vector<at::Tensor>& bags);

  int64_t size() const { return offsets.numel() - 1; }

  /// Bags padded with zeros to the size of the largest one.
  struct Padded {
    at::Tensor values;        ///< [bags, largest, features]
    at::Tensor padding_mask;  ///< [bags, largest] bool, true at padding
  };
  /// @throws c10::Error if the offsets do not fit the values; see bag_sizes().
  Padded padded() const;

  /// A copy whose values and labels are on that device. The offsets stay on the CPU, where they are read.
  BagBatch to(at::Device device) const;
};

/// The instances of each bag that have the highest scores, highest first.
struct BestMatches {
  at::Tensor indices;  ///< [bags, k] int64, positions within the bag; -1 where the bag has fewer than k instances
  at::Tensor values;   ///< [bags, k], their scores; NaN where the bag has fewer than k instances
};

/// Finds the k instances with the highest scores in each bag: with the scores of HopfieldPooling::instance_scores(),
/// those that decided.
///
/// @param scores   [total], one number for each instance, for example those of one head and one state pattern
/// @param offsets  [bags + 1] integers: bag n owns the rows offsets[n] .. offsets[n + 1]
/// @param k        at least 1
/// @throws c10::Error if scores or offsets have another shape, or if k is not positive.
BestMatches top_instances(const at::Tensor& scores, const at::Tensor& offsets, int64_t k);

/// The number of rows of each bag.
///
/// @param offsets  [bags + 1] integers
/// @param total    the number of rows of all bags
/// @throws c10::Error if the offsets do not start at 0, if they fall, or if they do not end at `total`.
std::vector<int64_t> bag_sizes(const at::Tensor& offsets, int64_t total);

}  // namespace hopfield
