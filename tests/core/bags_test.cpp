#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/core/bags.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::randn;

TEST(BagBatch, ConcatenatesAndPads) {
  const auto a = randn({2, 3}, 1), b = randn({4, 3}, 2), empty = at::zeros({0, 3}, at::kDouble);
  const auto batch = BagBatch::from({{a, 1}, {empty, 0}, {b, 1}});
  EXPECT_EQ(batch.size(), 3);
  EXPECT_TRUE(bitwise_equal(batch.values, at::cat({a, b})));
  EXPECT_TRUE(bitwise_equal(batch.offsets, at::tensor({0, 2, 2, 6}, at::kLong)));
  EXPECT_TRUE(bitwise_equal(batch.labels, at::tensor({1.0, 0.0, 1.0}, at::kDouble)));
  const auto padded = batch.padded();
  EXPECT_EQ(padded.values.sizes(), at::IntArrayRef({3, 4, 3}));
  EXPECT_TRUE(bitwise_equal(padded.values[0].slice(0, 0, 2), a));
  EXPECT_EQ(padded.values[1].abs().sum().item<double>(), 0);
  EXPECT_TRUE(
      bitwise_equal(padded.padding_mask, at::tensor({0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}).view({3, 4}).to(at::kBool)));
}

TEST(BagBatch, LabelsKeepTheirNumbersWhateverTheInstancesAre) {
  const std::vector<double> labels{257, -1, 0.5, 16'777'217, 1e-3};
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf, at::kByte, at::kInt, at::kBool}) {
    std::vector<Bag> bags;
    for (const auto label : labels) bags.push_back({at::ones({2, 3}, type), label});
    const auto batch = BagBatch::from(bags);
    EXPECT_TRUE(bitwise_equal(batch.labels, at::tensor(labels, at::kDouble))) << type;
    EXPECT_EQ(batch.values.scalar_type(), type);
  }
}

TEST(BagBatch, RefusesBagsThatDoNotFit) {
  const auto message = [](const std::vector<Bag>& bags) { return testing::error_of([&] { BagBatch::from(bags); }); };
  using ::testing::HasSubstr;
  EXPECT_THAT(message({}), HasSubstr("at least one bag"));
  EXPECT_THAT(message({{randn({2}, 1), 0}}), HasSubstr("2 dimensions [instances, features]"));
  EXPECT_THAT(message({{at::Tensor(), 0}}), HasSubstr("undefined"));
  EXPECT_THAT(message({{randn({2, 3}, 1), 0}, {randn({2, 4}, 1), 0}}), HasSubstr("bag 1 to have 3 features"));
  EXPECT_THAT(message({{randn({2, 3}, 1), 0}, {randn({2, 3}, 1).to(at::kFloat), 0}}), HasSubstr("like bag 0"));
}

TEST(BagSizes, RefusesOffsetsThatLie) {
  EXPECT_EQ(bag_sizes(at::tensor({0, 2, 2, 6}, at::kInt), 6), (std::vector<int64_t>{2, 0, 4}));
  EXPECT_THROW(bag_sizes(at::tensor({0, 2}, at::kLong), 3), c10::Error);
  EXPECT_THROW(bag_sizes(at::tensor({1, 3}, at::kLong), 3), c10::Error);
  EXPECT_THROW(bag_sizes(at::tensor({0, 4, 3}, at::kLong), 3), c10::Error);
  EXPECT_THROW(bag_sizes(at::tensor({0.0, 3.0}, at::kDouble), 3), c10::Error);
  EXPECT_THROW(bag_sizes(at::zeros({1, 2}, at::kLong), 0), c10::Error);
  EXPECT_THROW(bag_sizes(at::zeros({0}, at::kLong), 0), c10::Error);
  EXPECT_THROW(bag_sizes({}, 0), c10::Error);
}

}  // namespace
}  // namespace hopfield
