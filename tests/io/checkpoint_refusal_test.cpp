#include "io/files.h"
#include "io/training.h"
#include "support/errors.h"
#include <hopfield/io/checkpoint.h>
#include <hopfield/io/state_dict.h>

#include <torch/optim/adam.h>
#include <torch/optim/rmsprop.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace {

using hopfield::io::load_checkpoint;
using hopfield::io::load_safetensors;
using hopfield::io::SafetensorsFile;
using hopfield::io::save_checkpoint;
using hopfield::io::save_safetensors;
using hopfield::io::TensorDict;
using hopfield::testing::error_of;
using io_test::kOptimizers;
using io_test::Net;
using io_test::read_bytes;
using io_test::TemporaryFolder;
using io_test::Training;
using testing::AllOf;
using testing::HasSubstr;

/// A run that must refuse a file and stay as it is.
void expect_refused(Training& run, const std::string& path, const std::string& reason) {
  const auto before = run.bytes();
  const auto message = error_of([&] { run.load(path); });
  EXPECT_THAT(message, AllOf(HasSubstr(path), HasSubstr("expected"), HasSubstr(reason)));
  EXPECT_LT(message.size(), 1500u);
  EXPECT_TRUE(run.bytes() == before) << reason;
}

TEST(CheckpointRefusal, OfAnotherModelOptimizerOrGeneratorsIsRefused) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  const auto& [adam_name, make_adam] = kOptimizers[0];
  Training run(make_adam);
  run.step();

  Training wider(make_adam, 2, /*hidden=*/7);
  wider.step();
  wider.save(path);
  expect_refused(run, path, "'first.weight': expected [6, 4] of type Float, got [7, 4] of type Float");

  for (const size_t other : {size_t{2}, size_t{4}, size_t{5}}) {
    Training another(kOptimizers[other].second);
    another.step();
    another.save(path);
    expect_refused(run, path,
                   "of the optimizer Adam, got one of '" + kOptimizers[other].first.substr(0, other == 2 ? 5 : 3));
  }

  const auto with_groups = [&](std::vector<torch::optim::OptimizerParamGroup> groups) {
    const torch::optim::Adam optimizer(groups);
    save_checkpoint(path, *run.net, optimizer, {}, {{"data", run.data}});
  };
  with_groups({run.net->parameters()});
  expect_refused(run, path, "2 parameter groups, got 1");
  with_groups({run.net->first->parameters(), run.net->norm->parameters()});
  expect_refused(run, path, "parameter group 1 of the optimizer to hold 5 parameters, got 2");
  with_groups({run.net->second->parameters(), [&] {
                 auto rest = run.net->norm->parameters();
                 for (const auto& parameter : run.net->first->parameters()) rest.push_back(parameter);
                 rest.push_back(run.net->unused);
                 return rest;
               }()});
  expect_refused(run, path, "parameter group 0 of the optimizer to hold 'first.weight', got a group without it");

  save_checkpoint(path, *run.net, *run.optimizer);
  expect_refused(run, path, "the state of 'generator.data', got none");
  save_checkpoint(path, *run.net, *run.optimizer, {}, {{"data", run.data}, {"more", run.data}});
  expect_refused(run, path, "no state of 'generator.more'");
  hopfield::io::save_module(path, *run.net);
  expect_refused(run, path, "use load_module");
}

TEST(CheckpointRefusal, DamagedFilesAreRefused) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  Training run(kOptimizers[1].second);
  run.step();
  run.save(path);
  const auto good = load_safetensors(path);
  for (int i = 0; i < 2; ++i) run.step();

  using Edit = std::function<void(SafetensorsFile&)>;
  const auto without = [](const std::string& name) -> Edit {
    return [name](SafetensorsFile& file) {
      TensorDict rest;
      for (const auto& item : file.tensors) {
        if (item.key() != name) rest.insert(item.key(), item.value());
      }
      file.tensors = rest;
    };
  };
  const auto with = [](const std::string& name, const at::Tensor& tensor) -> Edit {
    return [name, tensor](SafetensorsFile& file) {
      if (auto* found = file.tensors.find(name)) {
        *found = tensor;
      } else {
        file.tensors.insert(name, tensor);
      }
    };
  };
  const auto with_text = [](const std::string& key, const std::string& value) -> Edit {
    return [key, value](SafetensorsFile& file) { file.metadata[key] = value; };
  };
  const auto with_replaced = [](const std::string& from, const std::string& to) -> Edit {
    return [from, to](SafetensorsFile& file) {
      auto& text = file.metadata.at("hopfield.optimizer");
      const auto at = text.find(from);
      ASSERT_NE(at, std::string::npos) << from;
      text.replace(at, from.size(), to);
    };
  };
  const std::vector<std::pair<Edit, std::string>> edits{
      {without("model.first.weight"), "1 missing ('first.weight')"},
      {with("model.third.weight", at::ones({1})), "1 unexpected ('third.weight')"},
      {with("model.first.bias", at::ones({9})), "'first.bias': expected [6] of type Float, got [9] of type Float"},
      {without("optimizer.first.weight.step"), "step of the optimizer for 'first.weight', got none"},
      {without("optimizer.first.weight.exp_avg"), "exp_avg of the optimizer for 'first.weight', got none"},
      {without("optimizer.second.bias.max_exp_avg_sq"), "max_exp_avg_sq of the optimizer for 'second.bias', got none"},
      {with("optimizer.first.bias.exp_avg", at::ones({1})), "the parameter's shape [6]"},
      {with("optimizer.first.bias.exp_avg", at::ones({6}, at::kComplexFloat)), "got [6] of type ComplexFloat"},
      {with("optimizer.first.bias.step", at::ones({})), "to be a 64-bit integer that is not negative"},
      {with("optimizer.first.bias.step", at::ones({1}, at::kLong)), "to be a 64-bit integer that is not negative"},
      {with("optimizer.first.bias.step", at::full({}, -1, at::kLong)), "to be a 64-bit integer that is not negative"},
      {with("optimizer.unused.step", at::ones({}, at::kLong)), "tensors of the optimizer, got"},
      {with("optimizer.third.step", at::ones({}, at::kLong)), "tensors of the optimizer, got"},
      {with("weight", at::ones({1})), "tensors of a model, an optimizer and generators, got 'weight'"},
      {without("default_generator"), "the state of 'default_generator', got none"},
      {without("generator.data"), "the state of 'generator.data', got none"},
      {with("default_generator", at::ones({3}, at::kByte)), "that it refuses"},
      {with("default_generator", at::ones({5056})), "that it refuses"},
      {with("generator.data", at::zeros({5056}, at::kByte)), "that it refuses"},
      {with("generator.data", at::full({5056}, 255, at::kByte)), "that it refuses"},
      {[](SafetensorsFile& file) { file.metadata.erase("hopfield.checkpoint"); }, "a file without it"},
      {[](SafetensorsFile& file) { file.metadata.erase("hopfield.epoch"); }, "'hopfield.epoch'"},
      {[](SafetensorsFile& file) { file.metadata.erase("hopfield.optimizer"); }, "'hopfield.optimizer'"},
      {with_text("hopfield.checkpoint", "2"), "a checkpoint of version 1, got '2'"},
      {with_text("hopfield.epoch", ""), "to be a whole number, got ''"},
      {with_text("hopfield.epoch", "3.5"), "to be a whole number"},
      {with_text("hopfield.epoch", " 3"), "to be a whole number"},
      {with_text("hopfield.epoch", "99999999999999999999"), "to be a whole number"},
      {with_text("hopfield.optimizer", ""), "a description of the optimizer as save_checkpoint writes it"},
      {with_text("hopfield.optimizer", "[]"), "a description of the optimizer"},
      {with_text("hopfield.optimizer", R"({"type":1,"groups":[]})"), "a description of the optimizer"},
      {with_text("hopfield.optimizer", R"({"type":"Adam"})"), "a description of the optimizer"},
      {with_text("hopfield.optimizer", std::string(100'000, '[')), "a description of the optimizer"},
      {with_text("hopfield.optimizer", std::string(100'000, '[') + std::string(100'000, ']')),
       "a description of the optimizer"},
      {with_text("hopfield.optimizer", R"({"type":"Adam","groups":7})"), "2 parameter groups, got 1"},
      {with_text("hopfield.optimizer", R"({"type":"Adam","groups":{"a":1,"b":2}})"), "a description of the optimizer"},
      {with_replaced("\"lr\":", "\"learning_rate\":"), "a description of the optimizer"},
      {with_replaced("\"lr\":", "\"lr\":-"), "Invalid learning rate"},
      {with_replaced("\"betas\":[0.8", "\"betas\":[1.8"), "Invalid beta parameter"},
      {with_replaced("\"betas\":[0.8,0.95]", "\"betas\":[0.8]"), "a description of the optimizer"},
      {with_replaced("\"amsgrad\":true", "\"amsgrad\":\"true\""), "a description of the optimizer"},
      {with_replaced("\"amsgrad\":true", "\"amsgrad\":false"), "tensors of the optimizer, got"},
      {with_replaced("\"first.bias\":true", "\"first.bias\":false"), "tensors of the optimizer, got"},
      {with_replaced("\"first.bias\":true", "\"first.bias\":1"), "a description of the optimizer"},
      {with_replaced("\"first.bias\"", "\"first.offset\""), "to hold 'first.bias', got a group without it"},
      {with_replaced("\"unused\":false", "\"unused\":true"), "step of the optimizer for 'unused', got none"},
  };
  for (const auto& [edit, reason] : edits) {
    SafetensorsFile file = good;
    edit(file);
    save_safetensors(path, file.tensors, file.metadata);
    expect_refused(run, path, reason);
  }
  // Unedited, the file is good.
  save_safetensors(path, good.tensors, good.metadata);
  EXPECT_EQ(error_of([&] { run.load(path); }), "");
}

TEST(CheckpointRefusal, TruncatedFilesAreRefused) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  Training run(kOptimizers[0].second);
  run.step();
  run.save(path);
  const auto bytes = read_bytes(path);
  run.step();
  const auto before = run.bytes();
  for (size_t size = 0; size < bytes.size(); size += 61) {
    io_test::write_bytes(path, bytes.substr(0, size));
    EXPECT_THAT(error_of([&] { run.load(path); }), HasSubstr(path)) << size;
  }
  EXPECT_TRUE(run.bytes() == before);
}

TEST(CheckpointRefusal, WhatCannotBeSavedIsNot) {
  const TemporaryFolder folder;
  const auto path = folder.file("f");
  Training run(kOptimizers[0].second);
  run.save(path);
  const auto before = read_bytes(path);

  torch::optim::RMSprop rmsprop(run.net->parameters());
  EXPECT_THAT(error_of([&] { save_checkpoint(path, *run.net, rmsprop); }),
              HasSubstr("to be torch::optim::Adam, AdamW or SGD, got torch::optim::RMSprop"));
  EXPECT_THAT(error_of([&] {
                load_checkpoint(path, *run.net, rmsprop, {{"data", run.data}});
              }),
              HasSubstr("got torch::optim::RMSprop"));

  struct OwnAdam : torch::optim::Adam {
    using torch::optim::Adam::Adam;
  };
  OwnAdam own(run.net->parameters());
  EXPECT_THAT(error_of([&] { save_checkpoint(path, *run.net, own); }), HasSubstr("OwnAdam"));

  Net other;
  torch::optim::Adam of_other(other->parameters());
  EXPECT_THAT(error_of([&] { save_checkpoint(path, *run.net, of_other); }),
              HasSubstr("to hold parameters of the module only, got one of shape ["));
  EXPECT_THAT(error_of([&] {
                save_checkpoint(path, *run.net, *run.optimizer, {0, {{"hopfield.epoch", "1"}}});
              }),
              HasSubstr("not to begin with 'hopfield.'"));
  EXPECT_THAT(error_of([&] {
                save_checkpoint(path, *run.net, *run.optimizer, {}, {{"data", at::Generator()}});
              }),
              HasSubstr("generator 'data' to be defined"));
  run.net->register_parameter("\xFF", torch::ones({1}));
  const torch::optim::Adam of_odd_name(run.net->parameters());
  EXPECT_THAT(error_of([&] { save_checkpoint(path, *run.net, of_odd_name); }), HasSubstr("valid UTF-8"));
  EXPECT_EQ(read_bytes(path), before);
  EXPECT_EQ(folder.size(), 1u);
}

}  // namespace
