#pragma once

#include <hopfield/core/bags.h>

#include <ATen/core/Tensor.h>
#include <torch/arg.h>
#include <torch/data/datasets/base.h>
#include <torch/data/example.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace hopfield::data {

struct LatchSequenceOptions {
  explicit LatchSequenceOptions(int64_t num_samples) : num_samples_(num_samples) {}

  TORCH_ARG(int64_t, num_samples);
  /// Length of the sequences.
  TORCH_ARG(int64_t, num_instances) = 20;
  /// Different characters, at least 3: two for the targets, the others at random.
  TORCH_ARG(int64_t, num_characters) = 6;
  TORCH_ARG(uint64_t, seed) = 43;
};

/// The latch task: sequences of one-hot characters whose first one, 0 or 1, is the target to be remembered; all others
/// are random characters from 2 on. The same seed gives the same set as in the Python package hflayers.
class LatchSequenceSet : public torch::data::datasets::Dataset<LatchSequenceSet> {
 public:
  /// @throws c10::Error if an option is out of range.
  explicit LatchSequenceSet(const LatchSequenceOptions& options);

  /// data [instances, characters], target []
  torch::data::Example<> get(size_t index) override;
  std::optional<size_t> size() const override { return static_cast<size_t>(targets_.numel()); }

  const at::Tensor& data() const { return data_; }        ///< [samples, instances, characters] float32, 0 or 1
  const at::Tensor& targets() const { return targets_; }  ///< [samples] float32, 0 or 1
  std::vector<Bag> bags() const;

 private:
  at::Tensor data_, targets_;
};

}  // namespace hopfield::data
