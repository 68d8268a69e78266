#include "support/naive.h"
#include <hopfield/nn/hopfield.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace hopfield::nn {
namespace {

using testing::bitwise_equal;
using testing::max_difference;
using testing::randn;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Hopfield make(HopfieldOptions options, uint64_t seed = 1) {
  torch::manual_seed(seed);
  Hopfield layer(std::move(options));
  layer->to(torch::kFloat64);
  torch::NoGradGuard no_grad;
  for (auto& p : layer->parameters()) p.copy_(p + 0.3 * randn(p.sizes(), ++seed));
  return layer;
}

TEST(Hopfield, InitialisesAsThePaperDoes) {
  torch::manual_seed(1);
  Hopfield layer(HopfieldOptions(256).num_heads(4).concat_bias_pattern(true));
  const auto& core = layer->association_core;
  for (const auto& weight : {core->in_proj_weight, core->out_proj->weight, core->bias_k, core->bias_v}) {
    EXPECT_NEAR(weight.mean().item<double>(), 0, 0.005);
    EXPECT_NEAR(weight.std().item<double>(), 0.02, 0.003);
  }
  EXPECT_EQ(core->in_proj_bias.abs().sum().item<double>(), 0);
  EXPECT_EQ(core->out_proj->bias.abs().sum().item<double>(), 0);
  const auto before = core->in_proj_weight.clone();
  layer->reset_parameters();
  EXPECT_FALSE(bitwise_equal(before, core->in_proj_weight));
}

TEST(Hopfield, AssociatesSetsOfDifferentSizesAndWidths) {
  auto layer = make(HopfieldOptions(8)
                        .stored_pattern_size(6)
                        .pattern_projection_size(10)
                        .hidden_size(5)
                        .pattern_size(7)
                        .output_size(9)
                        .num_heads(3)
                        .update_steps_max(1));
  const auto r = layer->associate({randn({3, 4, 8}, 2), randn({3, 6, 6}, 1), randn({3, 6, 10}, 3)}, {},
                                  AssociationRequest().with_energy().with_association());
  EXPECT_EQ(r.output.sizes(), at::IntArrayRef({3, 4, 9}));
  EXPECT_EQ(r.state.sizes(), at::IntArrayRef({3, 3, 4, 5}));
  EXPECT_EQ(r.association.sizes(), at::IntArrayRef({3, 3, 4, 6}));
  EXPECT_EQ(r.energy.sizes(), at::IntArrayRef({3, 3, 4}));
  EXPECT_LT(max_difference(r.association.sum(-1), at::ones({3, 3, 4}, at::kDouble)), 1e-14);
}

TEST(Hopfield, BatchConstantPatternsEqualRepeatedOnes) {
  auto layer = make(HopfieldOptions(8).num_heads(2).update_steps_max(2));
  const auto stored = randn({1, 6, 8}, 1), state = randn({3, 4, 8}, 2), values = randn({1, 6, 8}, 3);
  const auto shared = layer->associate({state, stored, values}).output;
  const auto repeated =
      layer->associate({state, stored.expand({3, -1, -1}).contiguous(), values.expand({3, -1, -1}).contiguous()})
          .output;
  EXPECT_LT(max_difference(shared, repeated), 1e-13);
  const auto one_state = layer->associate({state.slice(0, 0, 1), repeated}).output;
  EXPECT_EQ(one_state.size(0), 3);
}

TEST(Hopfield, BatchSecondIsTheTransposedBatchFirst) {
  auto first = make(HopfieldOptions(8).num_heads(2).update_steps_max(2));
  auto second = make(HopfieldOptions(8).num_heads(2).update_steps_max(2).batch_first(false));
  const auto x = randn({3, 5, 8}, 1);
  const auto padding = at::zeros({3, 5}, at::kBool);
  padding[1][4] = true;
  EXPECT_LT(max_difference(first->forward(x, padding), second->forward(x.transpose(0, 1), padding).transpose(0, 1)),
            1e-14);
}

TEST(Hopfield, PaddingMayHoldAnythingAndGradientsStayClean) {
  for (const bool batch_first : {true, false}) {
    auto layer = make(HopfieldOptions(8).num_heads(2).update_steps_max(2).batch_first(batch_first));
    auto x = randn({2, 5, 8}, 1);
    auto padding = at::zeros({2, 5}, at::kBool);
    padding[0].slice(0, 3).fill_(true);
    const auto live = padding.logical_not();
    const auto run = [&](const at::Tensor& input) {
      layer->zero_grad();
      const auto out =
          batch_first ? layer->forward(input, padding) : layer->forward(input.transpose(0, 1), padding).transpose(0, 1);
      out.index({live}).pow(2).sum().backward();
      std::vector<at::Tensor> results{out.index({live}).detach()};
      for (const auto& p : layer->parameters()) results.push_back(p.grad().clone());
      return results;
    };
    const auto clean = run(x.masked_fill(padding.unsqueeze(-1), 0));
    const auto dirty = run(x.masked_fill(padding.unsqueeze(-1), kNaN));
    for (size_t i = 0; i < clean.size(); ++i) EXPECT_TRUE(bitwise_equal(clean[i], dirty[i])) << i;
  }
}

TEST(Hopfield, FullyMaskedRowsGiveTheOutputBias) {
  auto layer = make(HopfieldOptions(8).num_heads(2).association_activation("tanh"));
  const auto x = randn({2, 5, 8}, 1);
  auto padding = at::zeros({2, 5}, at::kBool);
  padding[1].fill_(true);
  const auto out = layer->forward(x, padding);
  EXPECT_LT(max_difference(out[1], layer->association_core->out_proj->bias.tanh().expand({5, -1})), 1e-15);
  out[1].sum().backward();
  EXPECT_GT(layer->association_core->out_proj->bias.grad().abs().min().item<double>(), 0);
  EXPECT_EQ(layer->association_core->in_proj_weight.grad().abs().sum().item<double>(), 0);
}

TEST(Hopfield, ACausalMaskIsTheOneAboveTheDiagonal) {
  const auto x = randn({3, 6, 8}, 4);
  const auto behind = at::ones({6, 6}, at::kBool).triu(1);
  auto padding = at::zeros({3, 6}, at::kBool);
  padding[1].slice(0, 4).fill_(true);
  const auto added = randn({6, 6}, 5);
  for (const auto& options :
       {HopfieldOptions(8), HopfieldOptions(8).add_zero_association(true).concat_bias_pattern(true),
        HopfieldOptions(8).batch_first(false).update_steps_max(2)}) {
    auto layer = make(HopfieldOptions(options).num_heads(2));
    const auto y = options.batch_first() ? x : x.transpose(0, 1).contiguous();
    const auto causal = [&](const at::Tensor& pad, const at::Tensor& mask) {
      return layer->associate({y, y}, {pad, mask, {}, true}).output;
    };
    const auto masked = [&](const at::Tensor& pad, const at::Tensor& mask) {
      return layer->associate({y, y}, {pad, mask}).output;
    };
    EXPECT_LT(max_difference(causal({}, {}), masked({}, behind)), 1e-12);
    EXPECT_LT(max_difference(causal(padding, {}), masked(padding, behind)), 1e-12);
    EXPECT_LT(max_difference(causal({}, added), masked({}, added.masked_fill(behind, -INFINITY))), 1e-12);
    const auto of_bools = at::eye(6, at::kBool).logical_not();
    EXPECT_LT(max_difference(causal({}, of_bools), masked({}, of_bools)), 1e-12);
  }
  auto layer = make(HopfieldOptions(8).num_heads(2));
  const auto one = layer->associate({x[0], x[0]}, {{}, {}, {}, true}).output;
  EXPECT_LT(max_difference(one, layer->associate({x, x}, {{}, behind}).output[0]), 1e-12);
}

TEST(Hopfield, KeyBiasCountsKeysSeveralTimes) {
  auto layer = make(HopfieldOptions(8).num_heads(2).update_steps_max(1));
  const auto stored = randn({1, 3, 8}, 1), state = randn({1, 4, 8}, 2);
  Masks masks;
  masks.key_bias = at::tensor({std::log(2.0), 0.0, -INFINITY}, at::kDouble).unsqueeze(0);
  const auto repeated = at::cat({stored.slice(1, 0, 1), stored.slice(1, 0, 2)}, 1);
  EXPECT_LT(max_difference(layer->associate({state, stored}, masks).output, layer->associate({state, repeated}).output),
            1e-13);
}

TEST(Hopfield, AppendedPatternsWidenTheMatricesInOrder) {
  auto layer = make(HopfieldOptions(8)
                        .num_heads(2)
                        .hidden_size(3)
                        .pattern_size(4)
                        .concat_bias_pattern(true)
                        .add_zero_association(true)
                        .update_steps_max(1));
  const auto x = randn({2, 5, 8}, 1);
  auto mask = at::zeros({5, 5}, at::kBool);
  mask.fill_(true);
  const Masks masks{{}, mask, {}};
  const auto p = layer->get_association_matrix({x, x, x}, masks);
  EXPECT_EQ(p.sizes(), at::IntArrayRef({2, 2, 5, 7}));
  EXPECT_EQ(p.slice(-1, 0, 5).sum().item<double>(), 0) << "only the appended patterns are open";
  const auto values = layer->get_projected_pattern_matrix({x, x, x});
  EXPECT_EQ(values.sizes(), at::IntArrayRef({2, 2, 7, 4}));
  EXPECT_TRUE(bitwise_equal(values.select(2, 5)[0], layer->association_core->bias_v.view({2, 4})));
  EXPECT_EQ(values.select(2, 6).abs().sum().item<double>(), 0);
  layer->forward(x, {}, mask).sum().backward();
  EXPECT_GT(layer->association_core->bias_v.grad().abs().sum().item<double>(), 0);
  EXPECT_GT(layer->association_core->bias_k.grad().abs().sum().item<double>(), 0);
}

TEST(Hopfield, ScalingPerHeadAndTrained) {
  auto fixed = make(HopfieldOptions(8).num_heads(2).scaling({0.3, 1.7}).update_steps_max(2));
  auto trained =
      make(HopfieldOptions(8).num_heads(2).scaling({0.3, 1.7}).scaling_as_trainable(true).update_steps_max(2));
  ASSERT_EQ(trained->named_parameters()["association_core.scaling"].sizes(), at::IntArrayRef({2}));
  {
    torch::NoGradGuard no_grad;
    trained->association_core->scaling.copy_(at::tensor({0.3, 1.7}, at::kDouble));
    auto parameters = trained->named_parameters();
    for (auto& p : fixed->named_parameters()) parameters[p.key()].copy_(p.value());
  }
  const auto x = randn({2, 5, 8}, 1);
  EXPECT_LT(max_difference(fixed->forward(x), trained->forward(x)), 1e-14);
  EXPECT_FALSE(fixed->named_parameters().contains("association_core.scaling"));
  trained->forward(x).pow(2).sum().backward();
  EXPECT_GT(trained->association_core->scaling.grad().abs().min().item<double>(), 0);
  Hopfield usual(HopfieldOptions(8).num_heads(2).scaling_as_trainable(true));
  EXPECT_NEAR(usual->association_core->scaling[0].item<double>(), 0.5, 1e-7);
  EXPECT_EQ(Hopfield(HopfieldOptions(8).all_static())->association_core->beta().item<double>(), 1.0);
}

TEST(Hopfield, AllStaticIsRetrieveItself) {
  Hopfield layer(HopfieldOptions().all_static().scaling(3.0).fixed_steps(2).num_heads(2));
  EXPECT_TRUE(layer->parameters().empty());
  const auto stored = randn({2, 6, 5}, 1), state = randn({2, 3, 5}, 2), values = randn({2, 6, 4}, 3);
  const auto out = layer->associate({state, stored, values}).output;
  const auto expected =
      retrieve(RetrieveInput{state, stored, values}, RetrieveOptions().beta(3.0).fixed_steps(2)).output;
  EXPECT_LT(max_difference(out, at::cat({expected, expected}, -1)), 1e-14) << "both heads see the same patterns";
}

TEST(Hopfield, DropoutActsInTrainingOnlyAndFromItsGenerator) {
  auto layer = make(HopfieldOptions(8).num_heads(2).dropout(0.5));
  const auto x = randn({2, 5, 8}, 1);
  layer->eval();
  const auto quiet = layer->forward(x);
  EXPECT_TRUE(bitwise_equal(quiet, layer->forward(x)));
  layer->train();
  layer->set_generator(at::make_generator<at::CPUGeneratorImpl>(7));
  const auto one = layer->forward(x), two = layer->forward(x);
  EXPECT_FALSE(bitwise_equal(one, two));
  layer->set_generator(at::make_generator<at::CPUGeneratorImpl>(7));
  EXPECT_TRUE(bitwise_equal(one, layer->forward(x)));
  // A clone goes on by itself from the same place.
  const auto copy = std::dynamic_pointer_cast<HopfieldImpl>(layer->clone());
  const auto three = layer->forward(x);
  EXPECT_TRUE(bitwise_equal(copy->forward(x), three));
}

TEST(Hopfield, NormalisesAfterTheProjectionIfAsked) {
  auto layer = make(
      HopfieldOptions(8).num_heads(2).normalize_hopfield_space(true).normalize_hopfield_space_affine(true).fixed_steps(
          0));
  EXPECT_EQ(layer->association_core->p_norm_weight.sizes(), at::IntArrayRef({4}));
  const auto x = randn({2, 5, 8}, 1);
  const auto r = layer->associate({x, x, x});
  const auto& core = layer->association_core;
  const auto back = (r.state - core->p_norm_bias) / core->p_norm_weight;
  EXPECT_LT(back.mean(-1).abs().max().item<double>(), 1e-10);
}

TEST(Hopfield, TheEpsOfThatNormIsTheOption) {
  auto layer = make(HopfieldOptions(8)
                        .num_heads(2)
                        .normalize_inputs(false)
                        .normalize_hopfield_space(true)
                        .normalize_hopfield_space_eps(0.3)
                        .fixed_steps(0));
  const auto x = randn({2, 5, 8}, 1);
  const auto& core = layer->association_core;
  const auto query = at::linear(x, core->in_proj_weight.slice(0, 0, 8), core->in_proj_bias.slice(0, 0, 8));
  const auto expected = at::layer_norm(query.view({2, 5, 2, 4}).transpose(1, 2), {4}, {}, {}, 0.3);
  EXPECT_LT(max_difference(layer->associate({x, x}).state, expected), 1e-12);
}

TEST(Hopfield, UByteMasksCountAsBool) {
  auto layer = make(HopfieldOptions(8));
  const auto x = randn({2, 5, 8}, 1);
  const auto mask = at::ones({5, 5}, at::kByte).triu(1);
  auto padding = at::zeros({2, 5}, at::kByte);
  padding[0][4] = 1;
  EXPECT_TRUE(
      bitwise_equal(layer->forward(x, padding, mask), layer->forward(x, padding.to(at::kBool), mask.to(at::kBool))));
}

TEST(Hopfield, ActivationsAreLibTorchsOwn) {
  const auto x = randn({2, 5, 8}, 1);
  auto plain = make(HopfieldOptions(8));
  for (const auto* name : {"tanh", "relu", "sigmoid", "gelu", "silu", "sin", "celu", "softplus"}) {
    auto layer = make(HopfieldOptions(8).association_activation(name));
    EXPECT_TRUE(layer->forward(x).defined());
  }
  EXPECT_LT(
      max_difference(make(HopfieldOptions(8).association_activation("tanh"))->forward(x), plain->forward(x).tanh()),
      1e-15);
}

}  // namespace
}  // namespace hopfield::nn
