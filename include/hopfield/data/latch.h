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

/// The options of a LatchSequenceSet, with the names of the Python package hflayers.
struct LatchSequenceOptions {
  explicit LatchSequenceOptions(int64_t num_samples) : num_samples_(num_samples) {}

  TORCH_ARG(int64_t, num_samples);
  /// The length of each sequence.
  TORCH_ARG(int64_t, num_instances) = 20;
  /// The number of different characters, at least 3: characters 0 and 1 are the targets, the others are noise.
  TORCH_ARG(int64_t, num_characters) = 6;
  TORCH_ARG(uint64_t, seed) = 43;
};

/// The latch task: sequences of one-hot characters. The first character, 0 or 1, is the target that has to be
/// remembered; all others are drawn at random from the characters 2 and above. The same seed gives the same set as in
/// the Python package hflayers.
class LatchSequenceSet : public torch::data::datasets::Dataset<LatchSequenceSet> {
 public:
  /// @throws c10::Error if an option is out of range.
  explicit LatchSequenceSet(const LatchSequenceOptions& options);

  /// One sequence: data [instances, characters], target []. @throws c10::IndexError unless index is below size().
  torch::data::Example<> get(size_t index) override;
  std::optional<size_t> size() const override { return static_cast<size_t>(targets_.numel()); }

  const at::Tensor& data() const { return data_; }        ///< [samples, instances, characters] float32, 0 or 1
  const at::Tensor& targets() const { return targets_; }  ///< [samples] float32, 0 or 1
  std::vector<Bag> bags() const;

 private:
  at::Tensor data_, targets_;
};

}  // namespace hopfield::data
