// What every torch::nn module is expected to do.

#include "support/naive.h"
#include <hopfield/hopfield.h>

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

namespace hopfield::nn {
namespace {

using testing::bitwise_equal;
using testing::max_difference;
using testing::randn;

TEST(Modules, StandInSequential) {
  torch::nn::Sequential model(torch::nn::Linear(6, 8), Hopfield(HopfieldOptions(8).num_heads(2).update_steps_max(1)),
                              HopfieldLayer(HopfieldLayerOptions(8).quantity(5)),
                              HopfieldEncoderLayer(HopfieldEncoderLayerOptions(HopfieldOptions(8)).dim_feedforward(16)),
                              HopfieldPooling(HopfieldPoolingOptions(8).quantity(2)), torch::nn::Linear(16, 1));
  const auto out = model->forward(at::randn({3, 5, 6}));
  EXPECT_EQ(out.sizes(), at::IntArrayRef({3, 1}));
  out.sum().backward();
  for (const auto& p : model->named_parameters()) EXPECT_TRUE(p->grad().defined()) << p.key();
}

/// Runs the same checks over every module: make it, call it.
template <typename Module, typename Options>
void check_module(const Options& options, const std::function<at::Tensor(Module&, const at::Tensor&)>& call) {
  torch::manual_seed(5);
  Module module(options);
  module->eval();
  const auto x = at::randn({2, 4, 8});
  const auto expected = call(module, x);

  const auto copy = std::dynamic_pointer_cast<typename Module::ContainedType>(module->clone());
  Module cloned(copy);
  cloned->eval();
  EXPECT_TRUE(bitwise_equal(call(cloned, x), expected));
  {
    torch::NoGradGuard no_grad;
    for (auto& p : module->parameters()) p.add_(1.0);
  }
  EXPECT_TRUE(bitwise_equal(call(cloned, x), expected)) << "a clone shares nothing";

  std::stringstream stream;
  torch::save(cloned, stream);
  Module loaded(options);
  loaded->eval();
  torch::load(loaded, stream);
  EXPECT_TRUE(bitwise_equal(call(loaded, x), expected));

  cloned->to(torch::kFloat64);
  EXPECT_EQ(call(cloned, x.to(torch::kFloat64)).scalar_type(), at::kDouble);
  EXPECT_LT(max_difference(call(cloned, x.to(torch::kFloat64)), expected), 1e-5);
  cloned->to(torch::kBFloat16);
  EXPECT_EQ(call(cloned, x.to(torch::kBFloat16)).scalar_type(), at::kBFloat16);

  std::ostringstream text;
  text << *module;
  EXPECT_THAT(text.str(), ::testing::HasSubstr("hopfield::nn::"));
}

TEST(Modules, CloneSaveLoadConvertAndPrint) {
  const auto forward = [](auto& module, const at::Tensor& x) { return module->forward(x); };
  check_module<Hopfield>(HopfieldOptions(8).num_heads(2).update_steps_max(2).scaling_as_trainable(true), forward);
  check_module<Hopfield>(HopfieldOptions(8)
                             .num_heads(2)
                             .pattern_size(3)
                             .normalize_hopfield_space(true)
                             .normalize_hopfield_space_affine(true)
                             .concat_bias_pattern(true),
                         forward);
  check_module<HopfieldPooling>(HopfieldPoolingOptions(8).num_heads(2).quantity(2), forward);
  check_module<HopfieldLayer>(HopfieldLayerOptions(8).num_heads(2).quantity(5).lookup_weights_as_separated(true),
                              forward);
  check_module<HopfieldEncoderLayer>(HopfieldEncoderLayerOptions(HopfieldOptions(8)).dim_feedforward(16), forward);
  check_module<HopfieldDecoderLayer>(
      HopfieldDecoderLayerOptions(HopfieldOptions(8), HopfieldOptions(8)).dim_feedforward(16),
      [](auto& module, const at::Tensor& x) { return module->forward(x, x); });
}

/// Files of the Python package's parameters are read as they are; those written here are read back.
TEST(Modules, ExchangeSafetensorsUnderThePythonPackagesNames) {
  const auto path =
      (std::filesystem::temp_directory_path() / ("hopfield_names_" + std::to_string(::getpid()) + ".safetensors"))
          .string();
  const std::vector<std::pair<std::string, std::vector<int64_t>>> python_names{
      {"pooling_weights", {1, 2, 8}},
      {"hopfield.association_core.in_proj_weight", {24, 8}},
      {"hopfield.association_core.in_proj_bias", {24}},
      {"hopfield.association_core.out_proj.weight", {8, 8}},
      {"hopfield.association_core.out_proj.bias", {8}},
      {"hopfield.norm_stored_pattern.weight", {8}},
      {"hopfield.norm_stored_pattern.bias", {8}},
      {"hopfield.norm_state_pattern.weight", {8}},
      {"hopfield.norm_state_pattern.bias", {8}},
      {"hopfield.norm_pattern_projection.weight", {8}},
      {"hopfield.norm_pattern_projection.bias", {8}}};
  io::TensorDict tensors;
  for (const auto& [name, shape] : python_names) tensors.insert(name, at::randn(shape));
  io::save_safetensors(path, tensors);
  const auto options = HopfieldPoolingOptions(8).num_heads(2).quantity(2);
  HopfieldPooling plain(options), trained_scaling(HopfieldPoolingOptions(options).scaling_as_trainable(true));
  io::load_module(path, *plain);
  io::load_module(path, *trained_scaling);  // has one parameter more, which the file may lack
  const auto x = at::randn({2, 5, 8});
  EXPECT_TRUE(bitwise_equal(plain->hopfield->association_core->in_proj_bias,
                            tensors["hopfield.association_core.in_proj_bias"]));
  EXPECT_LT(max_difference(plain->forward(x), trained_scaling->forward(x)), 1e-6);

  io::save_module(path, *trained_scaling);
  HopfieldPooling again(HopfieldPoolingOptions(options).scaling_as_trainable(true));
  io::load_module(path, *again);
  EXPECT_TRUE(bitwise_equal(again->forward(x), trained_scaling->forward(x)));
  EXPECT_THROW(io::load_module(path, *plain), c10::Error) << "scaling is unexpected there";
  std::filesystem::remove(path);
}

TEST(Modules, ResultsMayBeChangedAndParametersStay) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const at::NoGradGuard no_grad;
    const auto bags = randn({2, 5, 8}, 1).to(type);
    HopfieldPooling pool(HopfieldPoolingOptions(8).state_pattern_as_static(true).quantity(2));
    HopfieldLayer layer(HopfieldLayerOptions(8).all_static().quantity(3));
    Hopfield association(HopfieldOptions(8).all_static());
    pool->to(type);
    layer->to(type);
    association->to(type);
    const auto before = bags.clone();
    std::vector<at::Tensor> parameters;
    for (const auto& all : {pool->parameters(), layer->parameters()}) {
      for (const auto& parameter : all) parameters.push_back(parameter.clone());
    }
    const auto change = [](const AssociationResult& r) {
      for (auto result : {r.output, r.state, r.logsumexp, r.residual, r.energy, r.scores, r.association}) {
        if (result.defined()) result.add_(1);
      }
    };
    const auto everything = AssociationRequest().with_association();
    change(pool->associate({bags, {}}, {}, everything));
    change(pool->associate_bags(BagBatch::from({{bags[0], 1}, {bags[1], 0}}), {}, {}, everything));
    change(layer->associate(bags, {}, everything));
    change(association->associate({bags, bags, bags}, {}, everything));
    pool->get_projected_pattern_matrix({bags, {}}).add_(1);
    layer->get_projected_pattern_matrix(bags).add_(1);
    association->get_projected_pattern_matrix({bags, bags, bags}).add_(1);
    EXPECT_TRUE(bitwise_equal(bags, before)) << type;
    size_t i = 0;
    for (const auto& all : {pool->parameters(), layer->parameters()}) {
      for (const auto& parameter : all) EXPECT_TRUE(bitwise_equal(parameter, parameters[i++])) << type;
    }
  }
}

TEST(Modules, OutputsOfTrainingMayBeChangedInPlace) {
  for (const bool projects_out : {true, false}) {
    HopfieldPooling pool(HopfieldPoolingOptions(8).num_heads(2).disable_out_projection(!projects_out));
    Hopfield association(HopfieldOptions(8).num_heads(2).disable_out_projection(!projects_out).update_steps_max(2));
    const auto x = randn({2, 5, 8}, 1).to(at::kFloat).requires_grad_(true);
    auto pooled = pool->forward(x), associated = association->forward(x);
    const auto expected = torch::autograd::grad({pooled.sum() + associated.sum()}, {x}, {}, true).front();
    pooled += 1;
    associated += x;
    const auto found = torch::autograd::grad({pooled.sum() + associated.sum()}, {x}).front();
    EXPECT_LT(max_difference(found, expected + 1), 1e-5) << projects_out;
  }
}

TEST(Modules, PrintTheirOptions) {
  std::ostringstream text;
  text << *Hopfield(HopfieldOptions(64).num_heads(8).hidden_size(32).scaling(0.25).update_steps_max({3}));
  EXPECT_EQ(text.str(),
            "hopfield::nn::Hopfield(input_size=64, hidden_size=32, num_heads=8, scaling=0.25, update_steps_max=3, "
            "update_steps_eps=0.0001, stop_rule=per_query, gradient=unrolled)(\n"
            "  (association_core): hopfield::nn::AssociationCore(num_heads=8, hidden_size=32, pattern_size=32)(\n"
            "    (out_proj): torch::nn::Linear(in_features=256, out_features=64, bias=true)\n  )\n"
            "  (norm_stored_pattern): torch::nn::LayerNorm([64], eps=1e-05, elementwise_affine=true)\n"
            "  (norm_state_pattern): torch::nn::LayerNorm([64], eps=1e-05, elementwise_affine=true)\n"
            "  (norm_pattern_projection): torch::nn::LayerNorm([64], eps=1e-05, elementwise_affine=true)\n)");
}

TEST(Modules, LearnUnderAutocast) {
  Hopfield layer(HopfieldOptions(8).num_heads(2).update_steps_max(1));
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const auto out = layer->forward(at::randn({2, 4, 8}));
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  out.sum().backward();
  EXPECT_EQ(layer->association_core->in_proj_weight.grad().scalar_type(), at::kFloat);
}

TEST(Modules, EveryModuleLearnsASmallTask) {
  torch::manual_seed(1);
  // Which of 4 prototypes is in the bag?
  const auto prototypes = at::randn({4, 8});
  const auto labels = at::randint(4, {64}, at::kLong);
  auto bags = 0.3 * at::randn({64, 6, 8});
  bags.select(1, 2).add_(prototypes.index_select(0, labels));
  HopfieldPooling pool(HopfieldPoolingOptions(8).num_heads(2).hidden_size(8).update_steps_max(1));
  torch::nn::Linear head(8, 4);
  std::vector<at::Tensor> parameters = pool->parameters();
  for (const auto& p : head->parameters()) parameters.push_back(p);
  torch::optim::AdamW optimizer(parameters, torch::optim::AdamWOptions(1e-2));
  double loss = 0;
  for (int step = 0; step < 150; ++step) {
    optimizer.zero_grad();
    const auto l = torch::cross_entropy_loss(head->forward(pool->forward(bags)), labels);
    l.backward();
    optimizer.step();
    loss = l.item<double>();
  }
  EXPECT_LT(loss, 0.2);
}

}  // namespace
}  // namespace hopfield::nn
