#include "data/numbers.h"
#include <hopfield/data/bag_dataset.h>

#include <ATen/ATen.h>

namespace hopfield::data {

Bag BagDataset::get(size_t index) {
  TORCH_CHECK_INDEX(index < bags_.size(), "hopfield::data::BagDataset: expected an index below ", bags_.size(),
                    ", got ", index);
  return bags_[index];
}

Bag drop_instances(const Bag& bag, double p, at::Generator generator) {
  constexpr auto* kFunction = "hopfield::data::drop_instances";
  TORCH_CHECK(p >= 0 && p <= 1, kFunction, ": expected p to be between 0 and 1, got ", p);
  TORCH_CHECK(generator.defined() && generator.device().is_cpu(), kFunction, ": expected a generator of the CPU, got ",
              generator.defined() ? c10::str("one of ", generator.device()) : std::string("none"));
  TORCH_CHECK(bag.instances.defined() && bag.instances.dim() == 2, kFunction,
              ": expected the bag to have 2 dimensions [instances, features], got ",
              bag.instances.defined() ? c10::str(bag.instances.sizes()) : std::string("an undefined tensor"));
  if (bag.instances.size(0) == 0) return bag;
  const auto draws = at::rand({bag.instances.size(0)}, generator, at::kDouble);
  const auto kept = draws.ge(p).logical_or_(draws.eq(draws.max()));  // the instance with the highest draw always stays
  return {bag.instances.index_select(0, kept.nonzero().squeeze(1).to(bag.instances.device())), bag.label};
}

std::vector<Bag> select(const std::vector<Bag>& bags, const std::vector<int64_t>& positions) {
  std::vector<Bag> selected;
  selected.reserve(positions.size());
  for (const auto position : positions) {
    TORCH_CHECK_INDEX(position >= 0 && position < static_cast<int64_t>(bags.size()),
                      "hopfield::data::select: expected positions from 0 to below ", bags.size(), ", got ", position);
    selected.push_back(bags[position]);
  }
  return selected;
}

std::vector<Bag> bags_of(const at::Tensor& instances, const at::Tensor& labels) {
  constexpr auto* kFunction = "hopfield::data::bags_of";
  TORCH_CHECK(instances.defined() && instances.dim() == 3, kFunction,
              ": expected instances to have 3 dimensions [bags, instances, features], got ",
              instances.defined() ? c10::str(instances.sizes()) : std::string("an undefined tensor"));
  const auto numbers = detail::numbers_of(labels, kFunction, "labels");
  TORCH_CHECK(static_cast<int64_t>(numbers.size()) == instances.size(0), kFunction, ": expected one label for each of ",
              instances.size(0), " bags, got ", numbers.size());
  std::vector<Bag> bags;
  bags.reserve(numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i) bags.push_back({instances[static_cast<int64_t>(i)], numbers[i]});
  return bags;
}

}  // namespace hopfield::data
