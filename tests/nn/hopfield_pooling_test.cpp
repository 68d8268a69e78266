#include "support/naive.h"
#include <hopfield/nn/hopfield_pooling.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace hopfield::nn {
namespace {

using testing::bitwise_equal;
using testing::max_difference;
using testing::randn;

HopfieldPooling make(HopfieldPoolingOptions options) {
  torch::manual_seed(1);
  HopfieldPooling pool(std::move(options));
  pool->to(torch::kFloat64);
  torch::NoGradGuard no_grad;
  uint64_t seed = 10;
  for (auto& p : pool->parameters()) p.copy_(p + 0.4 * randn(p.sizes(), ++seed));
  return pool;
}

BagBatch some_bags(int64_t features) {
  return BagBatch::from({{randn({4, features}, 1), 0}, {randn({1, features}, 2), 1}, {randn({7, features}, 3), 1}});
}

class BothBagForms : public ::testing::TestWithParam<HopfieldPoolingOptions> {};

TEST_P(BothBagForms, PaddedAndRaggedGiveTheSame) {
  auto pool = make(GetParam());
  const auto bags = some_bags(8);
  const auto padded = bags.padded();
  const auto poisoned =
      padded.values.masked_fill(padded.padding_mask.unsqueeze(-1), std::numeric_limits<double>::quiet_NaN());
  const auto input = pool->options.batch_first() ? poisoned : poisoned.transpose(0, 1);
  const auto a = pool->pool_bags(bags), b = pool->forward(input, padded.padding_mask);
  EXPECT_EQ(a.sizes(), at::IntArrayRef({3, pool->options.quantity() * 8}));
  EXPECT_LT(max_difference(a, b), 1e-12);

  const auto gradients = [&](const at::Tensor& output) {
    pool->zero_grad();
    output.pow(2).sum().backward();
    std::vector<at::Tensor> all;
    for (const auto& p : pool->parameters()) all.push_back(p.grad().defined() ? p.grad().clone() : at::zeros_like(p));
    return all;
  };
  const auto of_ragged = gradients(a), of_padded = gradients(b);
  for (size_t i = 0; i < of_ragged.size(); ++i) EXPECT_LT(max_difference(of_ragged[i], of_padded[i]), 1e-11) << i;

  const auto scores = pool->instance_scores(bags);
  EXPECT_EQ(scores.raw.sizes(), at::IntArrayRef({12, pool->options.num_heads(), pool->options.quantity()}));
  const auto matrix = pool->get_association_matrix({input, {}}, {padded.padding_mask, {}, {}});
  int64_t begin = 0;
  for (const int64_t n : {0, 1, 2}) {
    const auto size = std::vector<int64_t>{4, 1, 7}[n];
    const auto weights = scores.weights.slice(0, begin, begin + size).permute({1, 2, 0});
    EXPECT_LT(max_difference(weights, matrix[n].slice(-1, 0, size)), 1e-12);
    begin += size;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Options, BothBagForms,
    ::testing::Values(
        HopfieldPoolingOptions(8), HopfieldPoolingOptions(8).num_heads(2).quantity(3).update_steps_max(3),
        HopfieldPoolingOptions(8).num_heads(2).until_converged().stop_rule(StopRule::per_head),
        HopfieldPoolingOptions(8).num_heads(2).concat_bias_pattern(true).add_zero_association(true).update_steps_max(2),
        HopfieldPoolingOptions(8).num_heads(2).batch_first(false).quantity(2),
        HopfieldPoolingOptions(8).normalize_hopfield_space(true).association_activation("tanh"),
        HopfieldPoolingOptions(8).pattern_projection_as_connected(true).num_heads(2).update_steps_max(1),
        HopfieldPoolingOptions(8).separation(Separation::softmax1()).num_heads(2).quantity(2).update_steps_max(2),
        HopfieldPoolingOptions(8).separation(Separation::sparsemax()).num_heads(2).update_steps_max(2),
        HopfieldPoolingOptions(8)
            .separation(Separation::entmax(1.5))
            .num_heads(2)
            .concat_bias_pattern(true)
            .add_zero_association(true)
            .update_steps_max(2),
        HopfieldPoolingOptions(8)
            .stored_pattern_as_static(true)
            .state_pattern_as_static(true)
            .pattern_projection_as_static(true)));

TEST(HopfieldPooling, ValuesMayDifferFromStoredPatterns) {
  auto pool = make(HopfieldPoolingOptions(8)
                       .stored_pattern_size(6)
                       .pattern_projection_size(7)
                       .num_heads(2)
                       .hidden_size(4)
                       .output_size(5));
  const auto bags = some_bags(6);
  const auto values = randn({12, 7}, 9);
  const auto ragged = pool->pool_bags(bags, values);
  auto padded_values = BagBatch{values, bags.offsets, {}}.padded();
  const auto padded =
      pool->associate({bags.padded().values, padded_values.values}, {padded_values.padding_mask, {}, {}}).output;
  EXPECT_EQ(ragged.sizes(), at::IntArrayRef({3, 5}));
  EXPECT_LT(max_difference(ragged, padded), 1e-13);
}

TEST(HopfieldPooling, ABagDoesNotDependOnItsNeighbours) {
  auto pool = make(HopfieldPoolingOptions(8).num_heads(2).quantity(2).update_steps_max(3));
  const auto bags = some_bags(8);
  const auto together = pool->pool_bags(bags);
  const auto alone = pool->pool_bags(BagBatch::from({{bags.values.slice(0, 5, 12), 1}}));
  EXPECT_LT(max_difference(alone[0], together[2]), 1e-14);
  // Order within a bag does not matter.
  const auto turned = pool->pool_bags(BagBatch::from({{bags.values.slice(0, 5, 12).flip({0}), 1}}));
  EXPECT_LT(max_difference(turned[0], together[2]), 1e-13);
}

TEST(HopfieldPooling, EmptyBagsGiveTheOutputBias) {
  auto pool = make(HopfieldPoolingOptions(8).num_heads(2).quantity(2).update_steps_max(3));
  const auto empty = at::zeros({0, 8}, at::kDouble);
  const auto out = pool->pool_bags(BagBatch::from({{empty, 0}, {randn({3, 8}, 1), 1}, {empty, 0}}));
  const auto bias = pool->hopfield->association_core->out_proj->bias.repeat({2});
  EXPECT_LT(max_difference(out[0], bias), 1e-15);
  EXPECT_LT(max_difference(out[2], bias), 1e-15);
  out[0].sum().backward();
  EXPECT_EQ(pool->pooling_weights.grad().abs().sum().item<double>(), 0);
  const auto padded = pool->forward(at::zeros({2, 0, 8}, at::kDouble));
  EXPECT_LT(max_difference(padded[0], bias), 1e-15);
  for (const auto type : {at::kDouble, at::kFloat}) {  // by projected patterns, and by absorbed ones
    pool->to(type);
    Masks masks;
    masks.padding_mask = at::zeros({2, 0}, at::kBool);
    masks.key_bias = at::zeros({2, 0}, type);
    const auto masked = pool->associate({at::zeros({2, 0, 8}, type), {}}, masks).output;
    EXPECT_LT(max_difference(masked[1].to(at::kDouble), bias), 1e-7) << type;
  }
  pool->to(at::kDouble);
  EXPECT_EQ(pool->forward(at::zeros({0, 4, 8}, at::kDouble)).sizes(), at::IntArrayRef({0, 16}));
  EXPECT_EQ(pool->pool_bags({empty, at::zeros({1}, at::kLong), {}}).sizes(), at::IntArrayRef({0, 16}));
}

TEST(HopfieldPooling, FrozenStatePatternsGetNoGradient) {
  auto pool = make(HopfieldPoolingOptions(8).trainable(false));
  EXPECT_FALSE(pool->pooling_weights.requires_grad());
  pool->pool_bags(some_bags(8)).sum().backward();
  EXPECT_FALSE(pool->pooling_weights.grad().defined());
}

TEST(HopfieldPooling, RawScoresAreLogitsOfTheWeights) {
  auto pool = make(HopfieldPoolingOptions(8).num_heads(2).quantity(2).update_steps_max(1));
  const auto bags = some_bags(8);
  const auto scores = pool->instance_scores(bags);
  EXPECT_LT(max_difference(at::softmax(scores.raw.slice(0, 5, 12), 0), scores.weights.slice(0, 5, 12)), 1e-14);
  EXPECT_FALSE(scores.raw.requires_grad());
}

}  // namespace
}  // namespace hopfield::nn
