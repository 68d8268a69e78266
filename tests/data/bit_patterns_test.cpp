#include "support/errors.h"
#include <hopfield/data/bit_patterns.h>

#include <torch/data.h>
#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace hopfield::data {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

/// Reads patterns as binary numbers whose first bit is the highest: [..., bits] becomes [...].
at::Tensor numbers(const at::Tensor& patterns) {
  const auto powers = torch::pow(2, torch::arange(patterns.size(-1) - 1, -1, -1));
  return (patterns.to(at::kLong) * powers).sum(-1);
}

std::set<int64_t> set_of(const at::Tensor& values) {
  const auto flat = values.flatten().contiguous();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

TEST(BitPatternSet, EqualsThePythonPackagesSet) {
  BitPatternSet set(BitPatternOptions(4, 5, 3).num_signals_per_bag(2).num_bits(4));
  EXPECT_TRUE(numbers(set.signals()).equal(torch::tensor({3, 9, 14})));
  const auto expected =
      torch::tensor({7, 12, 9, 14, 15, 14, 1, 9, 12, 6, 6, 15, 4, 8, 11, 6, 10, 8, 7, 11}).view({4, 5});
  EXPECT_TRUE(numbers(set.data()).equal(expected)) << numbers(set.data());
  BitPatternSet larger(BitPatternOptions(64, 16, 8));
  EXPECT_TRUE(numbers(larger.signals()).equal(torch::tensor({57, 64, 88, 136, 188, 223, 226, 234})));
  const auto all = numbers(larger.data()).flatten();
  EXPECT_EQ((all * torch::arange(1, all.numel() + 1)).sum().item<int64_t>(), 66094365);
}

struct Case {
  BitPatternOptions options;
  int64_t positives;
};

TEST(BitPatternSet, KeepsItsInvariants) {
  for (const auto& [options, positives] : std::vector<Case>{
           {BitPatternOptions(40, 16, 8), 20},
           {BitPatternOptions(41, 16, 8), 21},
           {BitPatternOptions(10, 3, 2).num_signals_per_bag(3).fraction_targets(1.0), 10},
           {BitPatternOptions(10, 3, 2).num_signals_per_bag(0).fraction_targets(0.0), 1},
           {BitPatternOptions(1, 1, 1).num_bits(2), 1},
           {BitPatternOptions(20, 6, 6).num_bits(3).num_signals_per_bag(2), 10},  // one pattern is left for the others
           {BitPatternOptions(5, 4, 30).num_bits(5).fraction_targets(0.1), 1},
           {BitPatternOptions(5, 4, 3).num_bits(60), 3},
       }) {
    BitPatternSet set(options);
    const auto shape = std::vector<int64_t>{options.num_bags(), options.num_instances(), options.num_bits()};
    ASSERT_EQ(set.data().sizes().vec(), shape);
    EXPECT_EQ(set.data().scalar_type(), at::kFloat);
    EXPECT_TRUE(set.data().eq(0).logical_or(set.data().eq(1)).all().item<bool>());
    EXPECT_TRUE(set.data().any(-1).all().item<bool>());
    EXPECT_TRUE(set.signals().any(-1).all().item<bool>());
    const auto signals = set_of(numbers(set.signals()));
    EXPECT_EQ(static_cast<int64_t>(signals.size()), options.num_signals());
    EXPECT_TRUE(set.targets().equal(torch::arange(options.num_bags()).lt(positives).to(at::kFloat)));
    const auto is_signal = at::isin(numbers(set.data()), numbers(set.signals())).sum(1);  // [bags]
    EXPECT_TRUE(is_signal.equal(set.targets().to(at::kLong) * options.num_signals_per_bag())) << is_signal;
  }
}

TEST(BitPatternSet, SeedsChangeSignalsAndDataSeparately) {
  const BitPatternOptions options(20, 8, 4);
  BitPatternSet set(options), again(options);
  EXPECT_TRUE(set.data().equal(again.data()));
  BitPatternSet other_data(BitPatternOptions(options).seed_data(1));
  EXPECT_TRUE(set.signals().equal(other_data.signals()));
  EXPECT_FALSE(set.data().equal(other_data.data()));
  EXPECT_FALSE(set.signals().equal(BitPatternSet(BitPatternOptions(options).seed_signals(1)).signals()));
}

TEST(BitPatternSet, LeavesTheGlobalGeneratorAlone) {
  const auto state = [] { return at::globalContext().defaultGenerator(at::kCPU).get_state(); };
  const auto before = state();
  BitPatternSet set(BitPatternOptions(20, 8, 4));
  EXPECT_TRUE(before.equal(state()));
}

TEST(BitPatternSet, IsADatasetAndAListOfBags) {
  BitPatternSet set(BitPatternOptions(10, 6, 2));
  EXPECT_EQ(set.size(), 10u);
  EXPECT_TRUE(set.get(4).data.equal(set.data()[4]));
  EXPECT_EQ(set.get(4).target.item<float>(), 1);
  const auto bags = set.bags();
  ASSERT_EQ(bags.size(), 10u);
  EXPECT_TRUE(bags[7].instances.equal(set.data()[7]));
  EXPECT_EQ(bags[4].label, 1);
  EXPECT_EQ(bags[5].label, 0);
  EXPECT_THROW(set.get(10), c10::IndexError);
  auto loader = torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
      set.map(torch::data::transforms::Stack<>()), 10);
  for (const auto& batch : *loader) {
    EXPECT_TRUE(batch.data.equal(set.data()));
    EXPECT_TRUE(batch.target.equal(set.targets()));
  }
}

TEST(BitPatternSet, RefusesOptionsOutOfRange) {
  const auto message = [](const BitPatternOptions& options) { return error_of([&] { BitPatternSet set(options); }); };
  const std::string function = "hopfield::data::BitPatternSet: expected ";
  EXPECT_EQ(message({0, 1, 1}), function + "num_bags to be at least 1, got 0");
  EXPECT_EQ(message({1, -2, 1}), function + "num_instances to be at least 1, got -2");
  EXPECT_EQ(message({1, 1, 0}), function + "num_signals to be at least 1, got 0");
  EXPECT_EQ(message(BitPatternOptions(1, 1, 1).num_bits(0)), function + "num_bits to be at least 1, got 0");
  EXPECT_EQ(message(BitPatternOptions(1, 3, 1).num_signals_per_bag(4)),
            function + "num_signals_per_bag to be between 0 and num_instances, 3, got 4");
  EXPECT_THAT(message(BitPatternOptions(1, 3, 1).num_signals_per_bag(-1)), HasSubstr("got -1"));
  EXPECT_EQ(message(BitPatternOptions(1, 3, 1).fraction_targets(1.5)),
            function + "fraction_targets to be between 0 and 1, got 1.5");
  EXPECT_THAT(message(BitPatternOptions(1, 3, 1).fraction_targets(NAN)), HasSubstr("fraction_targets"));
  EXPECT_EQ(message(BitPatternOptions(1, 1, 255)),
            function + "num_signals below 2^num_bits - 1 so that other patterns are left, got 255 with num_bits = 8");
  EXPECT_EQ(message(BitPatternOptions(1, 1, 1).num_bits(1)),
            function + "num_signals below 2^num_bits - 1 so that other patterns are left, got 1 with num_bits = 1");
}

}  // namespace
}  // namespace hopfield::data
