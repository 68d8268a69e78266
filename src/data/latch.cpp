#include "data/synthetic.h"
#include <hopfield/data/bag_dataset.h>
#include <hopfield/data/latch.h>

#include <ATen/ATen.h>

namespace hopfield::data {

LatchSequenceSet::LatchSequenceSet(const LatchSequenceOptions& options) {
  constexpr auto* kFunction = "hopfield::data::LatchSequenceSet";
  detail::check_positive(options.num_samples(), kFunction, "num_samples");
  detail::check_positive(options.num_instances(), kFunction, "num_instances");
  TORCH_CHECK(options.num_characters() >= 3, kFunction, ": expected num_characters to be at least 3, got ",
              options.num_characters());
  auto generator = detail::generator_with(options.seed());
  auto characters =
      at::randint(2, options.num_characters(), {options.num_samples(), options.num_instances()}, generator, at::kLong);
  const auto targets = at::randint(2, {options.num_samples()}, generator, at::kLong);
  characters.select(1, 0).copy_(targets);
  data_ = at::one_hot(characters, options.num_characters()).to(at::kFloat);
  targets_ = targets.to(at::kFloat);
}

torch::data::Example<> LatchSequenceSet::get(size_t index) { return detail::example_at(data_, targets_, index); }

std::vector<Bag> LatchSequenceSet::bags() const { return bags_of(data_, targets_); }

}  // namespace hopfield::data
