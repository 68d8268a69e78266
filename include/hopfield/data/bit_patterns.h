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

struct BitPatternOptions {
  BitPatternOptions(int64_t num_bags, int64_t num_instances, int64_t num_signals)
      : num_bags_(num_bags), num_instances_(num_instances), num_signals_(num_signals) {}

  TORCH_ARG(int64_t, num_bags);
  /// Instances of each bag.
  TORCH_ARG(int64_t, num_instances);
  /// Different signals; less than 2^num_bits - 1.
  TORCH_ARG(int64_t, num_signals);
  /// Signals implanted in a positive bag, at different positions; the same signal may come twice.
  TORCH_ARG(int64_t, num_signals_per_bag) = 1;
  /// Share of positive bags, rounded up; at least one bag is positive.
  TORCH_ARG(double, fraction_targets) = 0.5;
  TORCH_ARG(int64_t, num_bits) = 8;
  TORCH_ARG(uint64_t, seed_signals) = 43;
  TORCH_ARG(uint64_t, seed_data) = 44;
};

/// Bags of random bit patterns; positive ones, the first of the set, contain signals, which no other instance equals.
/// No pattern is all zeros. The same seeds give the same set as in the Python package hflayers.
class BitPatternSet : public torch::data::datasets::Dataset<BitPatternSet> {
 public:
  /// @throws c10::Error if an option is out of range.
  explicit BitPatternSet(const BitPatternOptions& options);

  /// data [instances, bits], target []
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
