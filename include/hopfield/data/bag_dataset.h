#pragma once

#include <hopfield/core/bags.h>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/data/datasets/base.h>
#include <torch/data/transforms/collate.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace hopfield::data {

/// Bags as a LibTorch dataset, for torch::data::make_data_loader().
///
///     auto loader = torch::data::make_data_loader<torch::data::samplers::RandomSampler>(
///         hopfield::data::BagDataset(table.bags).map(hopfield::data::CollateBags()), /*batch_size=*/16);
///     for (const hopfield::BagBatch& batch : *loader) ...
class BagDataset : public torch::data::datasets::Dataset<BagDataset, Bag> {
 public:
  explicit BagDataset(std::vector<Bag> bags) : bags_(std::move(bags)) {}

  Bag get(size_t index) override;
  std::optional<size_t> size() const override { return bags_.size(); }

 private:
  std::vector<Bag> bags_;
};

/// Makes one BagBatch of the bags of a batch, with BagBatch::from().
struct CollateBags : torch::data::transforms::Collation<BagBatch, std::vector<Bag>> {
  BagBatch apply_batch(std::vector<Bag> bags) override { return BagBatch::from(bags); }
};

/// Bag dropout: leaves out each instance with probability p. A bag that would lose all its instances keeps one, chosen
/// at random.
/// @throws c10::Error unless 0 <= p <= 1 and the generator is a CPU generator.
Bag drop_instances(const Bag& bag, double p, at::Generator generator);

/// The bags at these positions, in this order, for example select(bags, fold.train).
/// @throws c10::IndexError if a position is not in [0, bags).
std::vector<Bag> select(const std::vector<Bag>& bags, const std::vector<int64_t>& positions);

/// Makes bags of equal size from one tensor. Their instances are views of it.
/// @param instances  [bags, instances, features]
/// @param labels     [bags] of any real dtype
/// @throws c10::Error if the shapes are others, or if a label is NaN.
std::vector<Bag> bags_of(const at::Tensor& instances, const at::Tensor& labels);

}  // namespace hopfield::data
