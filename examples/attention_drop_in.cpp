// Copies the weights of a torch::nn::MultiheadAttention into Hopfield layers. Without updates a layer has the same
// outputs; with updates they differ.
//
//   build/cpu/bin/attention_drop_in
//
// Last lines (exit code 1 if the outputs differ by more than 1e-6):
//   0 update steps: largest difference to MultiheadAttention 0.0e+00
//   1 update step:  largest difference to MultiheadAttention 1.9e-01
//   3 update steps: largest difference to MultiheadAttention 2.7e-01

#include <hopfield/hopfield.h>

#include <torch/torch.h>

#include <fmt/format.h>

namespace nn = hopfield::nn;

/// A Hopfield layer of width `size` with the weights of the attention, which updates its queries `steps` times.
nn::Hopfield from_attention(const torch::nn::MultiheadAttention& attention, int64_t size, int64_t heads,
                            int64_t steps) {
  // MultiheadAttention has no LayerNorms. Its scale 1 / sqrt(head size) is the default beta.
  nn::Hopfield layer(nn::HopfieldOptions(size).num_heads(heads).normalize_inputs(false).fixed_steps(steps));
  torch::NoGradGuard no_grad;
  const auto& core = layer->association_core;
  core->in_proj_weight.copy_(attention->in_proj_weight);
  core->in_proj_bias.copy_(attention->in_proj_bias);
  core->out_proj->weight.copy_(attention->out_proj->weight);
  core->out_proj->bias.copy_(attention->out_proj->bias);
  layer->eval();
  return layer;
}

int main() {
  constexpr int64_t kSize = 64, kHeads = 8;
  torch::manual_seed(0);
  torch::nn::MultiheadAttention attention(torch::nn::MultiheadAttentionOptions(kSize, kHeads));
  attention->eval();
  const auto x = torch::randn({4, 20, kSize});  // [batch, length, size]
  const auto turned = x.transpose(0, 1);        // MultiheadAttention takes [length, batch, size]
  const auto expected = std::get<0>(attention->forward(turned, turned, turned)).transpose(0, 1);

  double of_zero_steps = 0;
  for (const int64_t steps : {0, 1, 3}) {
    auto layer = from_attention(attention, kSize, kHeads, steps);
    const auto difference = (layer->forward(x) - expected).abs().max().item<double>();
    if (steps == 0) of_zero_steps = difference;
    fmt::print("{} update step{} largest difference to MultiheadAttention {:.1e}\n", steps,
               steps == 1 ? ": " : "s:", difference);
  }
  return of_zero_steps <= 1e-6 ? 0 : 1;
}
