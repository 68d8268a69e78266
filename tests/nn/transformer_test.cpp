#include "support/naive.h"
#include <hopfield/nn/transformer.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

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
