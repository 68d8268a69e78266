#include "support/errors.h"
#include <hopfield/data/bag_dataset.h>

#include <torch/data.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace hopfield::data {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

at::Generator seeded(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

/// Bag i has i % 4 + 1 instances, all of value i.
std::vector<Bag> numbered_bags(int64_t count) {
  std::vector<Bag> bags;
  for (int64_t i = 0; i < count; ++i) {
    bags.push_back({torch::full({i % 4 + 1, 3}, static_cast<double>(i), at::kFloat), static_cast<double>(i % 2)});
  }
  return bags;
}

TEST(BagDataset, ReturnsItsBags) {
  BagDataset dataset(numbered_bags(5));
  EXPECT_EQ(dataset.size(), 5u);
  EXPECT_EQ(dataset.get(3).instances.size(0), 4);
  EXPECT_EQ(dataset.get(3).label, 1);
  EXPECT_EQ(error_of([&] { dataset.get(5); }), "hopfield::data::BagDataset: expected an index below 5, got 5");
}

void expect_round_trip(size_t workers) {
  constexpr int64_t kBags = 23;
  auto loader = torch::data::make_data_loader<torch::data::samplers::RandomSampler>(
      BagDataset(numbered_bags(kBags)).map(CollateBags()),
      torch::data::DataLoaderOptions().batch_size(4).workers(workers));
  std::set<int64_t> seen;
  int64_t batches = 0;
  for (const BagBatch& batch : *loader) {
    ++batches;
    ASSERT_EQ(batch.labels.numel(), batch.size());
    const auto sizes = bag_sizes(batch.offsets, batch.values.size(0));
    for (int64_t i = 0; i < batch.size(); ++i) {
      const auto instances = batch.values.narrow(0, batch.offsets[i].item<int64_t>(), sizes[i]);
      const auto number = static_cast<int64_t>(instances[0][0].item<float>());
      EXPECT_TRUE(instances.eq(static_cast<double>(number)).all().item<bool>());
      EXPECT_EQ(sizes[i], number % 4 + 1);
      EXPECT_EQ(batch.labels[i].item<float>(), static_cast<float>(number % 2));
      EXPECT_TRUE(seen.insert(number).second);
    }
  }
  EXPECT_EQ(batches, 6);
  EXPECT_EQ(seen.size(), static_cast<size_t>(kBags));
}

TEST(BagDataset, PassesADataLoaderInThisThread) { expect_round_trip(0); }

TEST(BagDataset, PassesADataLoaderWithWorkers) { expect_round_trip(2); }

TEST(BagDataset, ChainsWithBagDropout) {
  auto generator = seeded(1);
  const auto thin =
      torch::data::transforms::Lambda<Bag>([generator](Bag bag) { return drop_instances(bag, 1.0, generator); });
  auto loader = torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
      BagDataset(numbered_bags(8)).map(thin).map(CollateBags()), 8);
  for (const BagBatch& batch : *loader) EXPECT_EQ(batch.values.size(0), 8);
}

TEST(DropInstances, KeepsOrderLabelAndAtLeastOne) {
  auto generator = seeded(2);
  const Bag bag{torch::arange(20, at::kFloat).view({10, 2}), 1};
  for (int round = 0; round < 200; ++round) {
    const auto rest = drop_instances(bag, 0.9, generator);
    ASSERT_GE(rest.instances.size(0), 1);
    ASSERT_EQ(rest.label, 1);
    const auto first = rest.instances.select(1, 0);
    ASSERT_TRUE(first.diff().gt(0).all().item<bool>());
    ASSERT_TRUE(rest.instances.equal(bag.instances.index_select(0, (first / 2).to(at::kLong))));
  }
}

TEST(DropInstances, DropsTheGivenShare) {
  auto generator = seeded(3);
  constexpr int64_t kInstances = 20000;
  const auto rest = drop_instances({torch::ones({kInstances, 1}), 0}, 0.3, generator);
  EXPECT_NEAR(static_cast<double>(rest.instances.size(0)), 0.7 * kInstances, 5 * std::sqrt(0.21 * kInstances));
}

TEST(DropInstances, TheEndsOfTheRange) {
  auto generator = seeded(4);
  const Bag bag{torch::arange(5, at::kFloat).view({5, 1}), 0};
  EXPECT_TRUE(drop_instances(bag, 0.0, generator).instances.equal(bag.instances));
  std::vector<int64_t> stayed(5, 0);
  constexpr int64_t kRounds = 5000;
  for (int64_t round = 0; round < kRounds; ++round) {
    const auto rest = drop_instances(bag, 1.0, generator).instances;
    ASSERT_EQ(rest.size(0), 1);
    ++stayed[static_cast<size_t>(rest.item<float>())];
  }
  for (const auto count : stayed) EXPECT_NEAR(count, kRounds / 5, 5 * std::sqrt(kRounds * 0.16));
  const Bag empty{torch::ones({0, 3}), 1};
  EXPECT_EQ(drop_instances(empty, 0.5, generator).instances.size(0), 0);
}

TEST(DropInstances, DrawsFromTheGivenGeneratorOnly) {
  const Bag bag{torch::arange(50, at::kFloat).view({50, 1}), 0};
  torch::manual_seed(1);
  const auto state = at::globalContext().defaultGenerator(at::kCPU).get_state();
  const auto first = drop_instances(bag, 0.5, seeded(9)).instances;
  EXPECT_TRUE(first.equal(drop_instances(bag, 0.5, seeded(9)).instances));
  EXPECT_FALSE(first.equal(drop_instances(bag, 0.5, seeded(10)).instances));
  EXPECT_TRUE(state.equal(at::globalContext().defaultGenerator(at::kCPU).get_state()));
}

TEST(DropInstances, RefusesWrongArguments) {
  const Bag bag{torch::ones({2, 2}), 0};
  for (const double p : {-0.1, 1.1, static_cast<double>(NAN)}) {
    EXPECT_THAT(error_of([&] { drop_instances(bag, p, seeded(0)); }),
                HasSubstr("expected p to be between 0 and 1, got "));
  }
  EXPECT_THAT(error_of([&] { drop_instances(bag, 0.5, at::Generator()); }),
              HasSubstr("generator of the CPU, got none"));
  EXPECT_THAT(error_of([&] { drop_instances({torch::ones({2}), 0}, 0.5, seeded(0)); }), HasSubstr("got [2]"));
  EXPECT_THAT(error_of([&] { drop_instances({}, 0.5, seeded(0)); }), HasSubstr("got an undefined tensor"));
}

TEST(Select, TakesBagsByPosition) {
  const auto bags = numbered_bags(6);
  const auto selected = select(bags, {5, 0, 5});
  ASSERT_EQ(selected.size(), 3u);
  EXPECT_TRUE(selected[0].instances.equal(bags[5].instances));
  EXPECT_TRUE(selected[1].instances.equal(bags[0].instances));
  EXPECT_TRUE(select(bags, {}).empty());
  EXPECT_EQ(error_of([&] { select(bags, {6}); }),
            "hopfield::data::select: expected positions from 0 to below 6, got 6");
  EXPECT_THAT(error_of([&] { select(bags, {-1}); }), HasSubstr("got -1"));
}

TEST(BagsOf, SplitsEqualBags) {
  const auto instances = torch::rand({3, 4, 2});
  const auto bags = bags_of(instances, torch::tensor({1, 0, 1}));
  ASSERT_EQ(bags.size(), 3u);
  EXPECT_TRUE(bags[1].instances.equal(instances[1]));
  EXPECT_EQ(bags[2].label, 1);
  EXPECT_THAT(error_of([&] { bags_of(instances, torch::ones({2})); }),
              HasSubstr("one label for each of 3 bags, got 2"));
  EXPECT_THAT(error_of([&] { bags_of(instances[0], torch::ones({4})); }), HasSubstr("got [4, 2]"));
}

}  // namespace
}  // namespace hopfield::data
