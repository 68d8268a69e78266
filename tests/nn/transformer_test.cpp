#include "support/naive.h"
#include <hopfield/nn/transformer.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <limits>
#include <sstream>

namespace hopfield::nn {
namespace {

using testing::max_difference;
using testing::randn;

/// Copies torch's own layer into ours: without norms in the association and with T = 0 they are the same network.
void copy_linear(torch::nn::Module& to, const std::string& name, const torch::nn::Linear& from) {
  torch::NoGradGuard no_grad;
  auto parameters = to.named_parameters();
  parameters[name + ".weight"].copy_(from->weight);
  parameters[name + ".bias"].copy_(from->bias);
}

void copy_attention(Hopfield& to, const torch::nn::MultiheadAttention& from) {
  torch::NoGradGuard no_grad;
  to->association_core->in_proj_weight.copy_(from->in_proj_weight);
  to->association_core->in_proj_bias.copy_(randn(from->in_proj_bias.sizes(), 5));
  from->in_proj_bias.copy_(to->association_core->in_proj_bias);
  to->association_core->out_proj->weight.copy_(from->out_proj->weight);
  to->association_core->out_proj->bias.copy_(from->out_proj->bias);
}

HopfieldOptions attention() { return HopfieldOptions(16).num_heads(4).normalize_inputs(false); }

TEST(HopfieldEncoderLayer, WithoutUpdatesIsTorchsEncoderLayer) {
  torch::nn::TransformerEncoderLayer theirs(
      torch::nn::TransformerEncoderLayerOptions(16, 4).dim_feedforward(32).dropout(0.0));
  HopfieldEncoderLayer ours(HopfieldEncoderLayerOptions(attention()).dim_feedforward(32).dropout(0.0));
  theirs->to(torch::kFloat64);
  ours->to(torch::kFloat64);
  copy_attention(ours->hopfield_association, theirs->self_attn);
  copy_linear(*ours, "linear_residual", theirs->linear1);
  copy_linear(*ours, "linear_output", theirs->linear2);
  const auto x = randn({2, 5, 16}, 1);
  const auto mask = at::ones({5, 5}, at::kBool).triu(1);
  const auto added = at::zeros({5, 5}, at::kDouble).masked_fill(mask, -INFINITY);  // torch's C++ layer adds every mask
  EXPECT_LT(max_difference(ours->forward(x, mask), theirs->forward(x.transpose(0, 1), added).transpose(0, 1)), 1e-12);
}

TEST(HopfieldDecoderLayer, WithoutUpdatesIsTorchsDecoderLayer) {
  torch::nn::TransformerDecoderLayer theirs(
      torch::nn::TransformerDecoderLayerOptions(16, 4).dim_feedforward(32).dropout(0.0));
  HopfieldDecoderLayer ours(HopfieldDecoderLayerOptions(attention(), attention()).dim_feedforward(32).dropout(0.0));
  theirs->to(torch::kFloat64);
  ours->to(torch::kFloat64);
  copy_attention(ours->hopfield_association_self, theirs->self_attn);
  copy_attention(ours->hopfield_association_cross, theirs->multihead_attn);
  copy_linear(*ours, "linear_residual", theirs->linear1);
  copy_linear(*ours, "linear_output", theirs->linear2);
  const auto x = randn({2, 5, 16}, 1), memory = randn({2, 7, 16}, 2);
  auto padding = at::zeros({2, 7}, at::kBool);
  padding[0].slice(0, 4).fill_(true);
  const auto a = ours->forward(x, memory, {}, {}, {}, padding);
  const auto b = theirs->forward(x.transpose(0, 1), memory.transpose(0, 1), {}, {}, {}, padding).transpose(0, 1);
  EXPECT_LT(max_difference(a, b), 1e-12);
}

TEST(HopfieldEncoderLayer, NormalisesBeforeOrBehindAndTakesGelu) {
  HopfieldEncoderLayer layer(HopfieldEncoderLayerOptions(attention())
                                 .dim_feedforward(32)
                                 .dropout(0.0)
                                 .norm_first(true)
                                 .layer_norm_eps(1e-3)
                                 .activation("gelu_tanh"));
  layer->to(torch::kFloat64);
  {
    const torch::NoGradGuard no_grad;
    int64_t seed = 1;
    for (auto& p : layer->parameters()) p.copy_(0.3 * randn(p.sizes(), seed++));
  }
  const auto x = randn({2, 5, 16}, 1);
  const auto p = layer->named_parameters();
  const auto norm = [&](const at::Tensor& rows, const std::string& name) {
    return at::layer_norm(rows, {16}, p[name + ".weight"], p[name + ".bias"], 1e-3);
  };
  const auto y = x + layer->hopfield_association->forward(norm(x, "norm_residual"));
  const auto inner = at::linear(norm(y, "norm_output"), p["linear_residual.weight"], p["linear_residual.bias"]);
  const auto expected = y + at::linear(at::gelu(inner, "tanh"), p["linear_output.weight"], p["linear_output.bias"]);
  EXPECT_LT(max_difference(layer->forward(x), expected), 1e-12);
  std::ostringstream text;
  text << layer;
  EXPECT_NE(text.str().find("layer_norm_eps=0.001, norm_first=true"), std::string::npos) << text.str();
}

TEST(TransformerLayers, TakeSequencesOfDifferentLengthsWithoutPadding) {
  HopfieldEncoderLayer encoder(HopfieldEncoderLayerOptions(attention()).dim_feedforward(32).dropout(0.0));
  HopfieldDecoderLayer decoder(HopfieldDecoderLayerOptions(attention(), attention()).dim_feedforward(32).dropout(0.0));
  encoder->to(torch::kFloat64);
  decoder->to(torch::kFloat64);
  const auto x = randn({9, 16}, 1), memory = randn({6, 16}, 2);
  const auto offsets = at::tensor({0, 4, 4, 9}, at::kLong), memory_offsets = at::tensor({0, 2, 3, 6}, at::kLong);
  for (const bool causal : {false, true}) {
    const auto encoded = encoder->forward_bags(x, offsets, causal);
    const auto decoded = decoder->forward_bags(x, offsets, memory, memory_offsets, causal);
    for (int64_t n = 0; n < 3; ++n) {
      const auto rows = [&](const at::Tensor& all, const at::Tensor& bounds) {
        return all.slice(0, bounds[n].item<int64_t>(), bounds[n + 1].item<int64_t>());
      };
      if (rows(x, offsets).size(0) == 0) continue;
      EXPECT_LT(max_difference(rows(encoded, offsets), encoder->forward(rows(x, offsets), {}, {}, causal)), 1e-12);
      EXPECT_LT(max_difference(rows(decoded, offsets), decoder->forward(rows(x, offsets), rows(memory, memory_offsets),
                                                                        {}, {}, {}, {}, causal)),
                1e-12);
    }
  }
}

TEST(TransformerLayers, RefuseAWrongEpsilon) {
  for (const double eps : {-1e-5, std::numeric_limits<double>::infinity()}) {
    EXPECT_THROW(HopfieldEncoderLayer(HopfieldEncoderLayerOptions(attention()).layer_norm_eps(eps)), c10::Error);
    EXPECT_THROW(HopfieldDecoderLayer(HopfieldDecoderLayerOptions(attention(), attention()).layer_norm_eps(eps)),
                 c10::Error);
  }
}

TEST(TransformerLayers, HaveThePythonPackagesParameterNames) {
  HopfieldEncoderLayer encoder(HopfieldEncoderLayerOptions(HopfieldOptions(8)));
  EXPECT_EQ(encoder->options.dim_feedforward(), 2048);
  for (const auto* name : {"hopfield_association.association_core.in_proj_weight", "linear_residual.weight",
                           "linear_output.bias", "norm_residual.weight", "norm_output.bias"}) {
    EXPECT_TRUE(encoder->named_parameters().contains(name)) << name;
  }
  HopfieldDecoderLayer decoder(HopfieldDecoderLayerOptions(HopfieldOptions(8), HopfieldOptions(8)));
  for (const auto* name : {"hopfield_association_self.association_core.in_proj_weight", "norm_residual_self.weight",
                           "hopfield_association_cross.association_core.out_proj.bias", "norm_residual_cross.bias"}) {
    EXPECT_TRUE(decoder->named_parameters().contains(name)) << name;
  }
}

TEST(TransformerLayers, TrainWithUpdateSteps) {
  torch::manual_seed(3);
  HopfieldEncoderLayer layer(
      HopfieldEncoderLayerOptions(HopfieldOptions(8).num_heads(2).update_steps_max(2)).dim_feedforward(16));
  layer->forward(at::randn({2, 5, 8})).pow(2).sum().backward();
  for (const auto& p : layer->named_parameters()) EXPECT_TRUE(p->grad().defined()) << p.key();
  const auto before = layer->named_parameters()["linear_residual.weight"].clone();
  layer->reset_parameters();
  EXPECT_FALSE(before.equal(layer->named_parameters()["linear_residual.weight"]));
}

}  // namespace
}  // namespace hopfield::nn
