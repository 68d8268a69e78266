#include "io/files.h"
#include "io/training.h"
#include <hopfield/io/checkpoint.h>

#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using hopfield::io::load_checkpoint;
using hopfield::io::load_safetensors;
using hopfield::io::save_checkpoint;
using io_test::kOptimizers;
using io_test::make;
using io_test::read_bytes;
using io_test::TemporaryFolder;
using io_test::Training;
using torch::optim::AdamOptions;
using torch::optim::SGDOptions;

TEST(Checkpoint, AResumedRunEqualsTheUninterruptedOne) {
  const TemporaryFolder folder;
  for (const auto& [name, make_optimizer] : kOptimizers) {
    Training run(make_optimizer);
    for (int i = 0; i < 4; ++i) run.step();
    run.save(folder.file("f"));
    for (int i = 0; i < 5; ++i) run.step();
    const auto expected = run.bytes();

    Training resumed(make_optimizer, /*seed=*/99);
    resumed.step();
    EXPECT_NE(resumed.bytes(), expected) << name;
    const auto info = resumed.load(folder.file("f"));
    EXPECT_EQ(info.epoch, 3);
    EXPECT_EQ(info.metadata, (hopfield::io::Metadata{{"note", "x"}}));
    EXPECT_EQ(resumed.bytes(), read_bytes(folder.file("f"))) << name;
    for (int i = 0; i < 5; ++i) resumed.step();
    EXPECT_EQ(resumed.bytes(), expected) << name;
  }
}

TEST(Checkpoint, BeforeTheFirstStepThereIsNoState) {
  const TemporaryFolder folder;
  for (const auto& [name, make_optimizer] : kOptimizers) {
    Training run(make_optimizer);
    run.save(folder.file("f"));
    Training resumed(make_optimizer, 2);
    for (int i = 0; i < 3; ++i) resumed.step();
    resumed.load(folder.file("f"));
    EXPECT_TRUE(resumed.optimizer->state().empty()) << name;
    run.load(folder.file("f"));
    run.step();
    const auto expected = run.bytes();
    resumed.load(folder.file("f"));
    resumed.step();
    EXPECT_EQ(resumed.bytes(), expected) << name;
  }
}

TEST(Checkpoint, HalfANormalPairIsKept) {
  // Drawing one number leaves the second of its pair in the generator.
  const TemporaryFolder folder;
  Training run(kOptimizers[0].second);
  at::normal(0.0, 1.0, {1});
  run.save(folder.file("f"));
  const auto expected = at::normal(0.0, 1.0, {3});
  Training resumed(kOptimizers[0].second, 5);
  resumed.load(folder.file("f"));
  EXPECT_TRUE(at::normal(0.0, 1.0, {3}).equal(expected));
}

TEST(Checkpoint, ReferencesToOptionsStayValid) {
  const TemporaryFolder folder;
  Training run(kOptimizers[0].second);
  auto& options = static_cast<AdamOptions&>(run.optimizer->param_groups()[0].options());
  run.save(folder.file("f"));
  options.lr(7).amsgrad(true);
  run.load(folder.file("f"));
  EXPECT_EQ(options.lr(), 1e-2);
  EXPECT_FALSE(options.amsgrad());
}

TEST(Checkpoint, ExtremeValuesComeBack) {
  const TemporaryFolder folder;
  Training run(make<torch::optim::Adam>(AdamOptions(0.1).eps(std::numeric_limits<double>::denorm_min())));
  save_checkpoint(folder.file("f"), *run.net, *run.optimizer, {std::numeric_limits<int64_t>::min(), {{"", "\n\""}}});
  const auto info = load_checkpoint(folder.file("f"), *run.net, *run.optimizer);
  EXPECT_EQ(info.epoch, std::numeric_limits<int64_t>::min());
  EXPECT_EQ(info.metadata.at(""), "\n\"");
  const auto& options = static_cast<const AdamOptions&>(run.optimizer->param_groups()[0].options());
  EXPECT_EQ(options.eps(), std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(options.lr(), 0.1);
}

TEST(Checkpoint, ItsParametersAreAlsoAFileOfTensors) {
  const TemporaryFolder folder;
  Training run(kOptimizers[0].second);
  run.step();
  run.save(folder.file("f"));
  const auto tensors = load_safetensors(folder.file("f")).tensors;
  EXPECT_TRUE(tensors["model.first.weight"].equal(run.net->first->weight));
  EXPECT_EQ(tensors["optimizer.first.weight.step"].item<int64_t>(), 1);
  EXPECT_FALSE(tensors.contains("optimizer.unused.step"));
}

TEST(Checkpoint, AnOptimizerOfSomeParametersAndOfTiedOnes) {
  const TemporaryFolder folder;
  torch::nn::Module module;
  const auto shared = std::make_shared<torch::nn::LinearImpl>(2, 2);
  module.register_module("first", shared);
  module.register_module("second", shared);
  module.register_parameter("frozen", torch::ones({2}));
  torch::optim::SGD optimizer(shared->parameters(), SGDOptions(0.1).momentum(0.9));
  const auto step = [&] {
    optimizer.zero_grad();
    shared->forward(torch::ones({1, 2})).square().sum().backward();
    optimizer.step();
  };
  step();
  save_checkpoint(folder.file("f"), module, optimizer);
  step();
  const auto expected = shared->weight.clone();
  load_checkpoint(folder.file("f"), module, optimizer);
  step();
  EXPECT_TRUE(shared->weight.equal(expected));
}

}  // namespace
