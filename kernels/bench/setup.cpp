#include "kernels/bench/setup.h"

#include <torch/torch.h>

#include <cmath>
#include <random>

namespace hopfield::bench {

using at::Tensor;

Setup::Setup(const Case& c, Backend chosen) : which(c), backend(chosen) {
  torch::manual_seed(1);
  const auto& s = c.sizes;
  const auto complete = [&](auto options) {
    return options.num_heads(heads).hidden_size(depth).fixed_steps(steps).backend(backend);
  };
  if (c.kind == "pooling" || c.kind == "ragged") {
    batch = s[0], keys = s[1], width = s[2], heads = s[3], depth = s[4], queries = s[5], steps = s[6];
    pooling = nn::HopfieldPooling(complete(nn::HopfieldPoolingOptions(width)).quantity(queries));
    adopt(pooling);
    core = pooling->hopfield;
  } else if (c.kind == "layer") {
    batch = s[0], queries = s[1], width = s[2], keys = s[3], heads = s[4], depth = s[5], steps = s[6];
    layer = nn::HopfieldLayer(complete(nn::HopfieldLayerOptions(width)).quantity(keys));
    adopt(layer);
    core = layer->hopfield;
  } else if (c.kind == "self") {
    batch = s[0], queries = keys = s[1], width = s[2], heads = s[3], depth = s[4], steps = s[5];
    self = nn::Hopfield(complete(nn::HopfieldOptions(width)));
    adopt(self);
    core = self;
  } else {
    batch = s[0], heads = s[1], queries = s[2], keys = s[3], depth = s[4], steps = s[5];
  }
  const auto data = torch::TensorOptions().dtype(c.dtype).device(c.device).requires_grad(c.train);
  if (c.is_op()) {
    const bool shared = c.kind == "shared";
    // attend_to_shared() gives LibTorch's attention the batch as further queries. In this layout that needs no copy.
    const auto numbers = shared
                             ? torch::randn({heads, batch, queries, depth}, data.requires_grad(false)).transpose(0, 1)
                             : torch::randn({batch, heads, queries, depth}, data.requires_grad(false));
    input = numbers.detach().requires_grad_(c.train);
    stored = torch::randn({shared ? 1 : batch, heads, keys, depth}, data);
    values = torch::randn({shared ? 1 : batch, heads, keys, depth}, data);
  } else if (c.kind == "ragged") {
    std::mt19937 random(7);
    std::uniform_int_distribution<int64_t> size(5, keys);
    std::vector<int64_t> offsets{0};
    for (int64_t i = 0; i < batch; ++i) offsets.push_back(offsets.back() + size(random));
    bags.offsets = at::tensor(offsets, at::kLong);
    set_rows(torch::randn({offsets.back(), width}, data));
  } else {
    input = torch::randn({batch, c.kind == "pooling" ? keys : queries, width}, data);
  }
  inputs = {{input, bags.values}};
}

template <typename Module>
void Setup::adopt(Module& module) {
  module->to(which.device, which.dtype);
  parameters = module->parameters();
}

void Setup::set_rows(const Tensor& rows) {
  bags.values = rows;
  const auto padded = bags.padded();
  input = padded.values.detach().requires_grad_(which.train);
  padding = padded.padding_mask;
}

void Setup::add_inputs(int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const auto fresh = at::randn_like(instances().detach()).requires_grad_(which.train);
    if (bags.values.defined()) {
      set_rows(fresh);
    } else {
      input = fresh;
    }
    inputs.push_back({input, bags.values});
  }
}

void Setup::next() {
  turn = (turn + 1) % inputs.size();
  input = inputs[turn].input;
  bags.values = inputs[turn].rows;
}

void Setup::drop_gradients() {
  for (auto& parameter : parameters) parameter.mutable_grad() = Tensor();
  for (auto* leaf : {&stored, &values}) {
    if (leaf->defined()) leaf->mutable_grad() = Tensor();
  }
  for (auto& one : inputs) {
    for (auto* leaf : {&one.input, &one.rows}) {
      if (leaf->defined()) leaf->mutable_grad() = Tensor();
    }
  }
}

Tensor Setup::run(const std::function<Tensor()>& forward) {
  if (!which.train) {
    const torch::NoGradGuard no_grad;
    return forward();
  }
  drop_gradients();
  const auto output = forward();
  if (!gradient.defined()) gradient = at::randn_like(output.detach());
  output.backward(gradient.reshape(output.sizes()));  // outputs of contenders may differ in their dimensions
  return output.detach();
}

int64_t Setup::input_bytes() const {
  size_t bytes = instances().nbytes();
  for (const auto* more : {&stored, &values}) bytes += more->defined() ? more->nbytes() : 0;
  return static_cast<int64_t>(bytes);
}

RetrieveInput op_input(const Setup& s) {
  RetrieveInput in;
  in.state = s.input;
  in.stored = s.stored;
  in.projection = s.values;
  return in;
}

RetrieveOptions op_options(const Setup& s) { return RetrieveOptions().fixed_steps(s.steps).backend(s.backend); }

Tensor library_forward(Setup& s) {
  if (s.which.is_op()) return retrieve(op_input(s), op_options(s)).output;
  if (s.which.kind == "ragged") return s.pooling->pool_bags(s.bags);
  if (s.pooling) return s.pooling->forward(s.input);
  return s.layer ? s.layer->forward(s.input) : s.self->forward(s.input);
}

namespace {

/// [N, L, H * d] to [N, H, L, d].
Tensor split_heads(const Tensor& x, int64_t heads) { return x.unflatten(-1, {heads, -1}).transpose(1, 2); }

/// T updates and the read-out by attention.
Tensor attend(Tensor state, const Tensor& keys, const Tensor& values, const Tensor& mask, double scale, int64_t steps) {
  const auto attention = [&](const Tensor& v) {
    return at::scaled_dot_product_attention(state, keys, v, mask.defined() ? std::optional<Tensor>(mask) : std::nullopt,
                                            0.0, false, scale);
  };
  for (int64_t step = 0; step < steps; ++step) state = attention(keys);
  return attention(values);
}

/// attend() for keys and values that the batch shares. The samples of the batch become further queries of one sample,
/// so that keys and values are not expanded.
Tensor attend_to_shared(const Setup& s, double scale) {
  const auto state = s.input.transpose(0, 1).flatten(1, 2).unsqueeze(0);
  return attend(state, s.stored, s.values, {}, scale, s.steps).squeeze(0).unflatten(1, {s.batch, -1}).transpose(0, 1);
}

}  // namespace

Tensor sdpa_forward(Setup& s) {
  const auto scale = 1 / std::sqrt(static_cast<double>(s.depth));
  if (s.which.kind == "shared") return attend_to_shared(s, scale);
  if (s.which.is_op()) return attend(s.input, s.stored, s.values, {}, scale, s.steps);
  auto& association = s.core->association_core;
  const auto weights = association->in_proj_weight.chunk(3), biases = association->in_proj_bias.chunk(3);
  Tensor state = s.input, stored = s.input;
  if (s.pooling) state = s.pooling->pooling_weights;
  if (s.layer) stored = s.layer->lookup_weights;
  const auto queries = at::linear(s.core->norm_state_pattern->forward(state), weights[0], biases[0]);
  const auto keys = at::linear(s.core->norm_stored_pattern->forward(stored), weights[1], biases[1]);
  const auto values = at::linear(s.core->norm_pattern_projection->forward(stored), weights[2], biases[2]);
  auto q = split_heads(queries, s.heads);
  if (s.pooling) q = q.expand({s.batch, -1, -1, -1});
  // The stored patterns are shared by the batch: its samples become further queries, as in attend_to_shared().
  if (s.layer) q = split_heads(queries.flatten(0, 1).unsqueeze(0), s.heads);
  const auto mask = s.padding.defined() ? s.padding.bitwise_not().unsqueeze(1).unsqueeze(1) : Tensor();
  const auto z = attend(q, split_heads(keys, s.heads), split_heads(values, s.heads), mask, scale, s.steps);
  const auto merged = z.transpose(1, 2).flatten(2);
  return association->out_proj->forward(merged);
}

}  // namespace hopfield::bench
