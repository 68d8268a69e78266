#include "data/synthetic.h"
#include <hopfield/data/bag_dataset.h>
#include <hopfield/data/bit_patterns.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace hopfield::data {
namespace {

void check(const BitPatternOptions& options) {
  constexpr auto* kFunction = "hopfield::data::BitPatternSet";
  detail::check_positive(options.num_bags(), kFunction, "num_bags");
  detail::check_positive(options.num_instances(), kFunction, "num_instances");
  detail::check_positive(options.num_signals(), kFunction, "num_signals");
  detail::check_positive(options.num_bits(), kFunction, "num_bits");
  const auto per_bag = options.num_signals_per_bag();
  TORCH_CHECK(per_bag >= 0 && per_bag <= options.num_instances(), kFunction,
              ": expected num_signals_per_bag to be between 0 and num_instances, ", options.num_instances(), ", got ",
              per_bag);
  TORCH_CHECK(options.fraction_targets() >= 0 && options.fraction_targets() <= 1, kFunction,
              ": expected fraction_targets to be between 0 and 1, got ", options.fraction_targets());
  constexpr int64_t kBitsOfInt64 = 63;
  TORCH_CHECK(options.num_bits() >= kBitsOfInt64 || options.num_signals() < (int64_t{1} << options.num_bits()) - 1,
              kFunction, ": expected num_signals below 2^num_bits - 1 so that other patterns are left, got ",
              options.num_signals(), " with num_bits = ", options.num_bits());
}

at::Tensor random_bits(at::IntArrayRef shape, at::Generator& generator) {
  return at::randint(2, shape, generator, at::kLong);
}

/// Draws the signals, which are unique and never all zeros. [signals, bits]
at::Tensor draw_signals(const BitPatternOptions& options) {
  auto generator = detail::generator_with(options.seed_signals());
  auto signals = random_bits({options.num_signals(), options.num_bits()}, generator);
  for (;;) {
    signals = std::get<0>(at::unique_dim(signals, 0));
    signals = signals.index({signals.any(1)});
    const auto missing = options.num_signals() - signals.size(0);
    if (missing == 0) return signals;
    signals = at::cat({signals, random_bits({missing, options.num_bits()}, generator)});
  }
}

/// Draws patterns that are neither all zeros nor equal to a signal. [bags, instances, bits]
at::Tensor draw_background(const BitPatternOptions& options, const at::Tensor& signals, at::Generator& generator) {
  auto patterns = random_bits({options.num_bags(), options.num_instances(), options.num_bits()}, generator);
  for (;;) {
    auto refused = patterns.any(2).logical_not_();
    for (const auto& signal : signals.unbind()) refused.logical_or_(patterns.eq(signal).all(2));
    const auto count = refused.sum().item<int64_t>();
    if (count == 0) return patterns;
    patterns.index_put_({refused}, random_bits({count, options.num_bits()}, generator));
  }
}

/// Replaces `count` instances of a bag by signals. The random numbers are drawn in the order of the Python package, so
/// that the same seed gives the same set.
void implant(at::Tensor bag, const at::Tensor& signals, int64_t count, at::Generator& generator) {
  const auto draw = [&](int64_t bound) { return at::randint(bound, {1}, generator, at::kLong).item<int64_t>(); };
  std::vector<int64_t> taken;
  while (static_cast<int64_t>(taken.size()) < count) {
    auto position = draw(bag.size(0));
    while (std::find(taken.begin(), taken.end(), position) != taken.end()) position = draw(bag.size(0));
    taken.push_back(position);
    bag[position] = signals[draw(signals.size(0))];
  }
}

}  // namespace

BitPatternSet::BitPatternSet(const BitPatternOptions& options) {
  check(options);
  const auto signals = draw_signals(options);
  auto generator = detail::generator_with(options.seed_data());
  auto patterns = draw_background(options, signals, generator);
  const auto share = std::ceil(static_cast<double>(options.num_bags()) * options.fraction_targets());
  const auto positives = std::clamp<int64_t>(static_cast<int64_t>(share), 1, options.num_bags());
  for (int64_t bag = 0; bag < positives; ++bag) {
    implant(patterns[bag], signals, options.num_signals_per_bag(), generator);
  }
  data_ = patterns.to(at::kFloat);
  signals_ = signals.to(at::kFloat);
  targets_ = at::arange(options.num_bags()).lt(positives).to(at::kFloat);
}

torch::data::Example<> BitPatternSet::get(size_t index) { return detail::example_at(data_, targets_, index); }

std::vector<Bag> BitPatternSet::bags() const { return bags_of(data_, targets_); }

}  // namespace hopfield::data
