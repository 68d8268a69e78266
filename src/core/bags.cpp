#include "core/padding.h"
#include <hopfield/core/bags.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace hopfield {

BagBatch BagBatch::from(const std::vector<at::Tensor>& bags) {
  TORCH_CHECK(!bags.empty(), "hopfield::BagBatch::from: expected at least one bag, got none");
  const auto& first = bags.front();
  auto offsets = at::zeros({static_cast<int64_t>(bags.size()) + 1}, at::kLong);
  for (size_t i = 0; i < bags.size(); ++i) {
    const auto& instances = bags[i];
    TORCH_CHECK(
        instances.defined() && !instances.is_nested() && instances.layout() == at::kStrided && instances.dim() == 2,
        "hopfield::BagBatch::from: expected bag ", i,
        " to be a dense tensor of 2 dimensions [instances, features], got ",
        instances.defined() ? (instances.is_nested() ? std::string("a nested one")
                                                     : c10::str(instances.sizes(), ", ", instances.layout()))
                            : std::string("an undefined tensor"));
    TORCH_CHECK(instances.size(1) == first.size(1) && instances.scalar_type() == first.scalar_type() &&
                    instances.device() == first.device(),
                "hopfield::BagBatch::from: expected bag ", i, " to have ", first.size(1), " features of type ",
                first.scalar_type(), " on ", first.device(), " like bag 0, got ", instances.size(1), " of type ",
                instances.scalar_type(), " on ", instances.device());
    offsets.data_ptr<int64_t>()[i + 1] = offsets.data_ptr<int64_t>()[i] + instances.size(0);
  }
  return {at::cat(bags), offsets, {}};
}

BagBatch BagBatch::from(const std::vector<Bag>& bags) {
  std::vector<at::Tensor> parts;
  parts.reserve(bags.size());
  auto labels = at::empty({static_cast<int64_t>(bags.size())}, at::kDouble);
  for (size_t i = 0; i < bags.size(); ++i) {
    parts.push_back(bags[i].instances);
    labels.data_ptr<double>()[i] = bags[i].label;
  }
  auto batch = from(parts);
  batch.labels = labels.to(batch.values.device());
  return batch;
}

BagBatch::Padded BagBatch::padded() const {
  const auto sizes = bag_sizes(offsets, values.size(0));
  return {pad_bags(values, sizes), padding_mask_of(sizes, values.device())};
}

BagBatch BagBatch::to(at::Device device) const {
  return {values.to(device), offsets, labels.defined() ? labels.to(device) : labels};
}

std::vector<int64_t> bag_sizes(const at::Tensor& offsets, int64_t total) {
  TORCH_CHECK(offsets.defined() && offsets.dim() == 1 && offsets.numel() > 0 &&
                  c10::isIntegralType(offsets.scalar_type(), /*includeBool=*/false),
              "hopfield::bag_sizes: expected offsets to be 1-dimensional integers [bags + 1], got ",
              offsets.defined() ? c10::str(offsets.sizes(), " of type ", offsets.scalar_type())
                                : std::string("an undefined tensor"));
  const auto host = offsets.to(at::kCPU, at::kLong).contiguous();
  const auto* begin = host.data_ptr<int64_t>();
  const auto bags = host.numel() - 1;
  TORCH_CHECK(begin[0] == 0 && begin[bags] == total, "hopfield::bag_sizes: expected offsets to run from 0 to ", total,
              ", the number of rows, got ", begin[0], " to ", begin[bags],
              host.sum().item<int64_t>() == total
                  ? "; lengths become offsets by at::cat({at::zeros({1}, at::kLong), lengths.cumsum(0)})"
                  : "");
  std::vector<int64_t> sizes(bags);
  for (int64_t i = 0; i < bags; ++i) {
    sizes[i] = begin[i + 1] - begin[i];
    TORCH_CHECK(sizes[i] >= 0, "hopfield::bag_sizes: expected offsets that never fall, got ", begin[i], " followed by ",
                begin[i + 1], " at position ", i + 1);
  }
  return sizes;
}

BestMatches top_instances(const at::Tensor& scores, const at::Tensor& offsets, int64_t k) {
  TORCH_CHECK(scores.defined() && scores.dim() == 1,
              "hopfield::top_instances: expected scores [total], one number for "
              "each instance, got ",
              scores.defined() ? c10::str(scores.sizes()) : std::string("an undefined tensor"),
              "; choose a head and a state pattern, as in scores.raw.select(1, 0).select(1, 0)");
  TORCH_CHECK(k > 0, "hopfield::top_instances: expected k to be positive, got ", k);
  const auto sizes = bag_sizes(offsets, scores.size(0));
  const auto bags = static_cast<int64_t>(sizes.size());
  BestMatches best{at::full({bags, k}, -1, scores.options().dtype(at::kLong)),
                   at::full({bags, k}, std::numeric_limits<double>::quiet_NaN(), scores.options())};
  int64_t n = 0;
  for (const auto& bag : scores.detach().split_with_sizes(sizes)) {
    const auto found = std::min(k, bag.size(0));
    const auto [values, indices] = bag.topk(found);
    best.values[n].narrow(0, 0, found).copy_(values);
    best.indices[n++].narrow(0, 0, found).copy_(indices);
  }
  return best;
}

}  // namespace hopfield
