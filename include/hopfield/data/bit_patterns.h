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

/// The options of a BitPatternSet, with the names of the Python package hflayers.
struct BitPatternOptions {
  BitPatternOptions(int64_t num_bags, int64_t num_instances, int64_t num_signals)
      : num_bags_(num_bags), num_instances_(num_instances), num_signals_(num_signals) {}

  TORCH_ARG(int64_t, num_bags);
  /// The number of instances in each bag.
  TORCH_ARG(int64_t, num_instances);
  /// The number of different signals; less than 2^num_bits - 1.
  TORCH_ARG(int64_t, num_signals);
  /// How many instances of a positive bag are signals. They have different positions; the same signal may occur twice.
  TORCH_ARG(int64_t, num_signals_per_bag) = 1;
  /// The share of positive bags. Their number is rounded up, and at least one bag is positive.
  TORCH_ARG(double, fraction_targets) = 0.5;
  TORCH_ARG(int64_t, num_bits) = 8;
  TORCH_ARG(uint64_t, seed_signals) = 43;
  TORCH_ARG(uint64_t, seed_data) = 44;
};

/// A synthetic task for multiple-instance learning: bags of random bit patterns. The positive bags, which come first,
/// contain signals; all other instances differ from every signal. No pattern is all zeros. The same seeds give the same
/// set as in the Python package hflayers.
class BitPatternSet : public torch::data::datasets::Dataset<BitPatternSet> {
 public:
  /// @throws c10::Error if an option is out of range.
  explicit BitPatternSet(const BitPatternOptions& options);

  /// One bag: data [instances, bits], target []. @throws c10::IndexError unless index is below size().
  torch::data::Example<> get(size_t index) override;
  std::optional<size_t> size() const override { return static_cast<size_t>(targets_.numel()); }

  const at::Tensor& data() const { return data_; }        ///< [bags, instances, bits] float32, 0 or 1
  const at::Tensor& targets() const { return targets_; }  ///< [bags] float32, 0 or 1
  const at::Tensor& signals() const { return signals_; }  ///< [signals, bits] float32, 0 or 1
  std::vector<Bag> bags() const;

 private:
  at::Tensor data_, targets_, signals_;
};

}  // namespace hopfield::data
