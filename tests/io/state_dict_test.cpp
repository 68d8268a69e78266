#include "io/files.h"
#include "support/errors.h"
#include <hopfield/io/state_dict.h>

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace {

using hopfield::io::load_module;
using hopfield::io::load_state_dict;
using hopfield::io::LoadOptions;
using hopfield::io::save_module;
using hopfield::io::state_dict;
using hopfield::io::TensorDict;
using hopfield::testing::error_of;
using io_test::same_bytes;
using io_test::TemporaryFolder;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Names = std::vector<std::string>;

/// Parameters, buffers, a nested module and a scalar that Python's files lack.
struct NetImpl : torch::nn::Module {
  explicit NetImpl(int64_t width = 3) {
    encoder = register_module("encoder", torch::nn::Sequential(torch::nn::Linear(width, 4), torch::nn::BatchNorm1d(4)));
    association_core = register_module("association_core", std::make_shared<torch::nn::Module>());
    association_core->register_parameter("scaling", torch::ones({2}));
    gain = register_parameter("gain", torch::ones({}));
  }
  torch::nn::Sequential encoder{nullptr};
  std::shared_ptr<torch::nn::Module> association_core;
  torch::Tensor gain;
};
TORCH_MODULE(Net);

TensorDict copy_of(const TensorDict& tensors) {
  TensorDict copies;
  for (const auto& item : tensors) copies.insert(item.key(), item.value().clone());
  return copies;
}

TensorDict without(const TensorDict& tensors, const std::string& name) {
  TensorDict rest;
  for (const auto& item : tensors) {
    if (item.key() != name) rest.insert(item.key(), item.value());
  }
  return rest;
}

void expect_equal(const TensorDict& a, const TensorDict& b) {
  ASSERT_EQ(a.keys(), b.keys());
  for (const auto& item : a) EXPECT_TRUE(same_bytes(item.value(), b[item.key()])) << item.key();
}

TEST(StateDict, NamesAreThoseOfPyTorch) {
  EXPECT_THAT(state_dict(*Net()).keys(),
              testing::UnorderedElementsAre("gain", "encoder.0.weight", "encoder.0.bias", "encoder.1.weight",
                                            "encoder.1.bias", "encoder.1.running_mean", "encoder.1.running_var",
                                            "encoder.1.num_batches_tracked", "association_core.scaling"));
}

TEST(StateDict, SharesMemoryAndHasNoGradient) {
  Net net;
  const auto tensors = state_dict(*net);
  EXPECT_FALSE(tensors["gain"].requires_grad());
  tensors["gain"].fill_(5);
  EXPECT_EQ(net->gain.item<double>(), 5);
}

TEST(StateDict, AModuleComesBackFromAFile) {
  const TemporaryFolder folder;
  Net saved, loaded;
  saved->encoder->forward(torch::randn({8, 3}));
  save_module(folder.file("f"), *saved, {{"kind", "net"}});
  const auto report = load_module(folder.file("f"), *loaded);
  EXPECT_THAT(report.missing, IsEmpty());
  EXPECT_THAT(report.unexpected, IsEmpty());
  EXPECT_THAT(report.mismatched, IsEmpty());
  expect_equal(state_dict(*loaded), state_dict(*saved));
  EXPECT_TRUE(loaded->gain.requires_grad());
  EXPECT_EQ(hopfield::io::load_safetensors(folder.file("f")).metadata.at("kind"), "net");
}

TEST(StateDict, ConvertsToTheModulesTypes) {
  Net saved, loaded;
  saved->to(torch::kDouble);
  load_state_dict(*loaded, state_dict(*saved));
  EXPECT_EQ(loaded->gain.scalar_type(), torch::kFloat);
  EXPECT_TRUE(loaded->encoder->parameters()[0].equal(saved->encoder->parameters()[0].to(torch::kFloat)));
  loaded->to(torch::kBFloat16);
  load_state_dict(*loaded, state_dict(*saved));
  EXPECT_EQ(loaded->gain.scalar_type(), torch::kBFloat16);
  // LibTorch's Module::to() has made this counter a Double in `saved`.
  Net fresh;
  load_state_dict(*fresh, state_dict(*saved));
  EXPECT_EQ(state_dict(*fresh)["encoder.1.num_batches_tracked"].scalar_type(), torch::kLong);
}

TEST(StateDict, AnErrorNamesEverythingAndChangesNothing) {
  Net net;
  auto given = copy_of(state_dict(*net));
  for (auto& item : given) item.value().add_(1);
  given = without(without(given, "gain"), "encoder.1.running_var");
  given["encoder.0.weight"] = torch::ones({4, 7});
  given["encoder.0.bias"] = torch::ones({4}, torch::kComplexFloat);
  given["encoder.1.bias"] = torch::Tensor();
  given.insert("decoder.weight", torch::ones({1}));
  const auto before = copy_of(state_dict(*net));
  const auto message = error_of([&] { load_state_dict(*net, given); });
  EXPECT_THAT(message,
              HasSubstr("hopfield::io::load_state_dict: expected the tensors to match the module, got 2 missing ("));
  EXPECT_THAT(message, AllOf(HasSubstr("'gain'"), HasSubstr("'encoder.1.running_var'")));
  EXPECT_THAT(message, HasSubstr("1 unexpected ('decoder.weight')"));
  EXPECT_THAT(message, HasSubstr("3 mismatched ("));
  EXPECT_THAT(message, HasSubstr("'encoder.0.weight': expected [4, 3] of type Float, got [4, 7] of type Float"));
  EXPECT_THAT(message, HasSubstr("'encoder.0.bias': expected [4] of type Float, got [4] of type ComplexFloat"));
  EXPECT_THAT(message, HasSubstr("'encoder.1.bias': expected [4] of type Float, got undefined"));
  EXPECT_THAT(message, HasSubstr("strict(false)"));
  expect_equal(state_dict(*net), before);
}

TEST(StateDict, NotStrictLoadsWhatMatchesAndReportsTheRest) {
  Net net;
  auto given = copy_of(state_dict(*net));
  for (auto& item : given) item.value().zero_();
  given = without(given, "encoder.0.bias");
  given["encoder.0.weight"] = torch::ones({4, 7});
  given.insert("decoder.weight", torch::ones({1}));
  const auto weight = net->encoder->parameters()[0].clone();
  const auto report = load_state_dict(*net, given, LoadOptions().strict(false));
  EXPECT_THAT(report.missing, ElementsAre("encoder.0.bias"));
  EXPECT_THAT(report.unexpected, ElementsAre("decoder.weight"));
  EXPECT_THAT(report.mismatched, ElementsAre("encoder.0.weight"));
  EXPECT_EQ(net->gain.item<double>(), 0);
  EXPECT_TRUE(net->encoder->parameters()[0].equal(weight));
}

TEST(StateDict, OptionalNamesMayBeMissing) {
  Net net;
  const auto given = copy_of(without(state_dict(*net), "association_core.scaling"));
  EXPECT_THAT(load_state_dict(*net, given).missing, IsEmpty());
  EXPECT_THAT(error_of([&] { load_state_dict(*net, given, LoadOptions().optional_suffixes({})); }),
              HasSubstr("1 missing ('association_core.scaling')"));
  const auto less = without(given, "gain");
  EXPECT_THAT(load_state_dict(*net, less, LoadOptions().optional_suffixes({"scaling", "gain"})).missing, IsEmpty());
  // What may be missing must still fit when it is there.
  auto wrong = copy_of(state_dict(*net));
  wrong["association_core.scaling"] = torch::ones({3});
  EXPECT_THAT(error_of([&] { load_state_dict(*net, wrong); }), HasSubstr("1 mismatched"));
}

TEST(StateDict, ManyNamesAreCut) {
  TensorDict given;
  for (int i = 0; i < 300; ++i) given.insert("parameter" + std::to_string(i), torch::ones({1}));
  const auto message = error_of([&] { load_state_dict(*Net(), given); });
  EXPECT_THAT(message, HasSubstr("300 unexpected ('parameter0', 'parameter1'"));
  EXPECT_THAT(message, HasSubstr("and 292 more)"));
  EXPECT_THAT(message, Not(HasSubstr("parameter8'")));
  EXPECT_LT(message.size(), 1000u);
}

TEST(StateDict, ErrorsOfFilesNameThem) {
  const TemporaryFolder folder;
  Net net(3), other(5);
  save_module(folder.file("f"), *other);
  const auto before = copy_of(state_dict(*net));
  EXPECT_THAT(error_of([&] { load_module(folder.file("f"), *net); }),
              AllOf(HasSubstr("hopfield::io::load_module: expected '" + folder.file("f") + "' to match the module"),
                    HasSubstr("expected [4, 3] of type Float, got [4, 5] of type Float")));
  io_test::write_bytes(folder.file("f"), io_test::read_bytes(folder.file("f")).substr(0, 500));
  EXPECT_THAT(error_of([&] { load_module(folder.file("f"), *net); }), HasSubstr(folder.file("f")));
  expect_equal(state_dict(*net), before);
}

TEST(StateDict, ATensorWithoutItsOwnMemoryIsRefusedBeforeAnyIsChanged) {
  torch::nn::Module module;
  module.register_parameter("weight", torch::ones({2}));
  module.register_buffer("shared", torch::ones({1}).expand({3}));
  const TensorDict given{{"weight", torch::zeros({2})}, {"shared", torch::zeros({3})}};
  EXPECT_THAT(error_of([&] { load_state_dict(module, given); }), HasSubstr("'shared'"));
  EXPECT_EQ(module.parameters()[0].sum().item<double>(), 2);
}

TEST(StateDict, TiedParametersHaveBothNames) {
  torch::nn::Module module;
  const auto shared = std::make_shared<torch::nn::LinearImpl>(2, 2);
  module.register_module("first", shared);
  module.register_module("second", shared);
  const auto tensors = copy_of(state_dict(module));
  EXPECT_EQ(tensors.size(), 4u);
  EXPECT_THAT(load_state_dict(module, tensors).missing, IsEmpty());
}

}  // namespace
