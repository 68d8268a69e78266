// The formulas this library is named for, by plain matrix products.

#include "support/naive.h"
#include <hopfield/hopfield.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace hopfield::nn {
namespace {

using testing::max_difference;
using testing::randn;

/// Connected values, no norms, no biases, no output projection.
HopfieldOptions formula_options(int64_t heads, int64_t steps) {
  return HopfieldOptions(12)
      .num_heads(heads)
      .hidden_size(5)
      .stored_pattern_size(7)
      .pattern_projection_size(7)
      .pattern_projection_as_connected(true)
      .normalize_inputs(false)
      .input_bias(false)
      .disable_out_projection(true)
      .scaling(0.8)
      .fixed_steps(steps);
}

void randomize(torch::nn::Module& module) {
  torch::NoGradGuard no_grad;
  uint64_t seed = 100;
  for (auto& parameter : module.parameters()) parameter.copy_(0.5 * randn(parameter.sizes(), ++seed));
}

/// Z = softmax(beta R W_Q W_K^T Y^T) Y W_K W_V with `steps` updates of R W_Q before it, one head after the other.
at::Tensor formula(const Hopfield& layer, const at::Tensor& R, const at::Tensor& Y, int64_t heads, int64_t steps) {
  const auto& core = layer->association_core;
  const auto head = [&](const at::Tensor& weight, int64_t h) { return weight.chunk(heads, 0)[h].t(); };
  std::vector<at::Tensor> Z;
  for (int64_t n = 0; n < R.size(0); ++n) {
    const auto W_V = core->v_proj_weight.t();  // [heads * hidden, heads * hidden]: values mix the heads' keys
    const auto values = Y[n].matmul(core->k_proj_weight.t()).matmul(W_V);
    std::vector<at::Tensor> parts;
    for (int64_t h = 0; h < heads; ++h) {
      const auto W_Q = head(core->q_proj_weight, h), W_K = head(core->k_proj_weight, h);
      auto xi = R[n].matmul(W_Q);
      for (int64_t t = 0; t < steps; ++t)
        xi = at::softmax(0.8 * xi.matmul(W_K.t()).matmul(Y[n].t()), -1).matmul(Y[n]).matmul(W_K);
      parts.push_back(at::softmax(0.8 * xi.matmul(W_K.t()).matmul(Y[n].t()), -1).matmul(values.chunk(heads, 1)[h]));
    }
    Z.push_back(at::cat(parts, -1));
  }
  return at::stack(Z);
}

class MissionFormula : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(MissionFormula, SoftmaxOfBetaRWqWkYTimesYWkWv) {
  const auto [heads, steps] = GetParam();
  Hopfield layer(formula_options(heads, steps));
  layer->to(torch::kFloat64);
  randomize(*layer);
  const auto R = randn({3, 4, 12}, 1), Y = randn({3, 6, 7}, 2);
  const auto Z = layer->associate({R, Y}).output;
  EXPECT_LT(max_difference(Z, formula(layer, R, Y, heads, steps)), 1e-12);
}

INSTANTIATE_TEST_SUITE_P(HeadsAndSteps, MissionFormula,
                         ::testing::Values(std::pair<int64_t, int64_t>{1, 0}, std::pair<int64_t, int64_t>{4, 0},
                                           std::pair<int64_t, int64_t>{1, 3}, std::pair<int64_t, int64_t>{4, 3}));

TEST(AttentionFormula, ZeroStepsAreMultiheadAttention) {
  torch::nn::MultiheadAttention attention(torch::nn::MultiheadAttentionOptions(16, 4));
  attention->to(torch::kFloat64);
  Hopfield layer(HopfieldOptions(16).num_heads(4).normalize_inputs(false));
  layer->to(torch::kFloat64);
  {
    torch::NoGradGuard no_grad;
    layer->association_core->in_proj_weight.copy_(attention->in_proj_weight);
    layer->association_core->in_proj_bias.copy_(attention->in_proj_bias);
    layer->association_core->out_proj->weight.copy_(attention->out_proj->weight);
    layer->association_core->out_proj->bias.copy_(attention->out_proj->bias);
  }
  const auto x = randn({2, 5, 16}, 1), t = x.transpose(0, 1);
  const auto expected = std::get<0>(attention->forward(t, t, t)).transpose(0, 1);
  EXPECT_LT(max_difference(layer->forward(x), expected), 1e-12);
  const auto mask = at::ones({5, 5}, at::kBool).triu(1);
  const auto added = at::zeros({5, 5}, at::kDouble).masked_fill(mask, -INFINITY);  // torch's C++ module adds every mask
  const auto padding = at::tensor({0, 0, 0, 0, 0, 0, 0, 0, 1, 1}).view({2, 5}).to(at::kBool);
  const auto masked = std::get<0>(attention->forward(t, t, t, padding, false, added)).transpose(0, 1);
  EXPECT_LT(max_difference(layer->forward(x, padding, mask), masked), 1e-12);
}

}  // namespace
}  // namespace hopfield::nn
