#include "support/errors.h"
#include <hopfield/data/latch.h>

#include <torch/data.h>
#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hopfield::data {
namespace {

using ::testing::ElementsAre;
using testing::error_of;

TEST(LatchSequenceSet, EqualsThePythonPackagesSet) {
  LatchSequenceSet set(LatchSequenceOptions(4).num_instances(7));
  const auto expected =
      torch::tensor({{1, 2, 5, 3, 3, 4, 2}, {0, 3, 5, 5, 4, 4, 4}, {0, 2, 5, 5, 4, 5, 5}, {0, 3, 5, 4, 5, 4, 5}});
  EXPECT_TRUE(set.data().argmax(-1).equal(expected)) << set.data().argmax(-1);
  EXPECT_TRUE(set.targets().equal(torch::tensor({1.0f, 0.0f, 0.0f, 0.0f})));
}

TEST(LatchSequenceSet, KeepsItsInvariants) {
  for (const auto& options :
       {LatchSequenceOptions(500), LatchSequenceOptions(50).num_instances(1),
        LatchSequenceOptions(50).num_characters(3), LatchSequenceOptions(1).num_characters(100)}) {
    LatchSequenceSet set(options);
    EXPECT_THAT(set.data().sizes().vec(),
                ElementsAre(options.num_samples(), options.num_instances(), options.num_characters()));
    EXPECT_EQ(set.data().scalar_type(), at::kFloat);
    EXPECT_TRUE(set.data().sum(-1).eq(1).all().item<bool>());
    EXPECT_TRUE(set.data().eq(0).logical_or(set.data().eq(1)).all().item<bool>());
    const auto characters = set.data().argmax(-1);
    EXPECT_TRUE(characters.select(1, 0).equal(set.targets().to(at::kLong)));
    EXPECT_TRUE(characters.narrow(1, 1, options.num_instances() - 1).ge(2).all().item<bool>());
  }
}

TEST(LatchSequenceSet, UsesAllCharactersAndBothTargets) {
  LatchSequenceSet set(LatchSequenceOptions(1000));
  const auto counts = set.data().sum(at::IntArrayRef{0, 1});
  EXPECT_TRUE(counts.gt(0).all().item<bool>());
  EXPECT_NEAR(set.targets().mean().item<float>(), 0.5, 0.1);
}

TEST(LatchSequenceSet, DependsOnTheSeedOnly) {
  const auto state = [] { return at::globalContext().defaultGenerator(at::kCPU).get_state(); };
  const auto before = state();
  LatchSequenceSet set(LatchSequenceOptions(30)), again(LatchSequenceOptions(30));
  EXPECT_TRUE(before.equal(state()));
  EXPECT_TRUE(set.data().equal(again.data()));
  EXPECT_FALSE(set.data().equal(LatchSequenceSet(LatchSequenceOptions(30).seed(1)).data()));
}

TEST(LatchSequenceSet, IsADatasetAndAListOfBags) {
  LatchSequenceSet set(LatchSequenceOptions(12));
  EXPECT_EQ(set.size(), 12u);
  EXPECT_TRUE(set.get(3).data.equal(set.data()[3]));
  EXPECT_TRUE(set.get(3).target.equal(set.targets()[3]));
  EXPECT_THROW(set.get(12), c10::IndexError);
  const auto bags = set.bags();
  ASSERT_EQ(bags.size(), 12u);
  EXPECT_TRUE(bags[3].instances.equal(set.data()[3]));
  EXPECT_EQ(bags[3].label, set.targets()[3].item<float>());
  auto loader = torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
      set.map(torch::data::transforms::Stack<>()), 12);
  for (const auto& batch : *loader) EXPECT_TRUE(batch.data.equal(set.data()));
}

TEST(LatchSequenceSet, RefusesOptionsOutOfRange) {
  const auto message = [](const LatchSequenceOptions& options) {
    return error_of([&] { LatchSequenceSet set(options); });
  };
  const std::string function = "hopfield::data::LatchSequenceSet: expected ";
  EXPECT_EQ(message(LatchSequenceOptions(0)), function + "num_samples to be at least 1, got 0");
  EXPECT_EQ(message(LatchSequenceOptions(2).num_instances(0)), function + "num_instances to be at least 1, got 0");
  EXPECT_EQ(message(LatchSequenceOptions(2).num_characters(2)), function + "num_characters to be at least 3, got 2");
}

}  // namespace
}  // namespace hopfield::data
