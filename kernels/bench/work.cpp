#include "kernels/bench/case.h"
#include <hopfield/hopfield.h>

#include <ATen/Context.h>
#include <torch/torch.h>

#include <array>
#include <cmath>
#include <random>

namespace hopfield::bench {
namespace {

using at::Tensor;

/// A case's module and data, the same for whoever works on it.
struct Setup {
  explicit Setup(const Case& c) : which(c) {
    torch::manual_seed(1);
    const auto& s = c.sizes;
    const auto complete = [&](auto options) { return options.num_heads(heads).hidden_size(depth).fixed_steps(steps); };
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
    if (c.kind == "retrieve") {
      input = torch::randn({batch, heads, queries, depth}, data);
      stored = torch::randn({batch, heads, keys, depth}, data);
    } else if (c.kind == "ragged") {
      std::mt19937 random(7);
      std::uniform_int_distribution<int64_t> size(5, keys);
      std::vector<int64_t> offsets{0};
      for (int64_t i = 0; i < batch; ++i) offsets.push_back(offsets.back() + size(random));
      bags.offsets = at::tensor(offsets, at::kLong);
      bags.values = torch::randn({offsets.back(), width}, data);
      const auto padded = bags.padded();
      input = padded.values.detach().requires_grad_(c.train);
      padding = padded.padding_mask;
    } else {
      input = torch::randn({batch, c.kind == "pooling" ? keys : queries, width}, data);
    }
  }

  template <typename Module>
  void adopt(Module& module) {
    module->to(which.device, which.dtype);
    parameters = module->parameters();
  }

  /// Runs `forward`, and in training also its backward from a gradient as a loss would give it.
  Tensor run(const std::function<Tensor()>& forward) {
    if (!which.train) {
      const torch::NoGradGuard no_grad;
      return forward();
    }
    drop_gradients();
    const auto output = forward();
    if (!gradient.defined()) gradient = at::randn_like(output.detach());
    output.backward(gradient);
    return output.detach();
  }

  void drop_gradients() {
    for (auto& parameter : parameters) parameter.mutable_grad() = Tensor();
    for (auto* leaf : {&input, &stored, &bags.values}) {
      if (leaf->defined()) leaf->mutable_grad() = Tensor();
    }
  }

  int64_t input_bytes() const {
    const auto& own = bags.values.defined() ? bags.values : input;
    return static_cast<int64_t>(own.nbytes() + (stored.defined() ? stored.nbytes() : 0));
  }

  /// Instances alone: states, weights and what is kept for backward are small beside them. Forward has to read a bag
  /// T + 1 times, or once where it fits on chip, into the shared memory of a cluster of 16 blocks. Backward has to read
  /// it T + 1 times, since what it needs of all instances is known only when an association has been gone through, and
  /// once more for their gradient, which it writes.
  int64_t moved_bytes() const {
    constexpr int64_t kOnChip = 1 << 20;
    if (!pooling) return 0;
    const auto row = width * static_cast<int64_t>(c10::elementSize(which.dtype));
    const auto ends = bags.offsets.defined() ? bags.offsets : at::arange(batch + 1, at::kLong) * keys;
    int64_t bytes = 0;
    for (int64_t i = 0; i < batch; ++i) {
      const auto bag = (ends[i + 1] - ends[i]).item<int64_t>() * row;
      bytes += bag <= kOnChip ? bag : (steps + 1) * bag;
      if (which.train) bytes += (steps + 3) * bag;
    }
    return bytes;
  }

  Case which;
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, depth = 0, width = 0, steps = 0;
  nn::HopfieldPooling pooling{nullptr};
  nn::HopfieldLayer layer{nullptr};
  nn::Hopfield self{nullptr}, core{nullptr};
  std::vector<Tensor> parameters;
  Tensor input, stored, padding, gradient;
  BagBatch bags;
};

/// Lets attention use one backend alone, while it lives.
class OnlyBackend {
 public:
  explicit OnlyBackend(at::SDPBackend backend)
      : before_{context().userEnabledFlashSDP(), context().userEnabledMemEfficientSDP(), context().userEnabledMathSDP(),
                context().userEnabledCuDNNSDP()} {
    enable({backend == at::SDPBackend::flash_attention, backend == at::SDPBackend::efficient_attention,
            backend == at::SDPBackend::math, backend == at::SDPBackend::cudnn_attention});
  }
  ~OnlyBackend() { enable(before_); }
  OnlyBackend(const OnlyBackend&) = delete;
  OnlyBackend& operator=(const OnlyBackend&) = delete;

 private:
  using Enabled = std::array<bool, 4>;  // flash, memory-efficient, math, cuDNN

  static at::Context& context() { return at::globalContext(); }
  static void enable(const Enabled& which) {
    context().setSDPUseFlash(which[0]);
    context().setSDPUseMemEfficient(which[1]);
    context().setSDPUseMath(which[2]);
    context().setSDPUseCuDNN(which[3]);
  }

  Enabled before_;
};

/// [N, L, H * d] as [N, H, L, d].
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

Tensor sdpa_forward(Setup& s) {
  const auto scale = 1 / std::sqrt(static_cast<double>(s.depth));
  if (s.which.kind == "retrieve") return attend(s.input, s.stored, s.stored, {}, scale, s.steps);
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
  if (s.layer) q = split_heads(queries.flatten(0, 1).unsqueeze(0), s.heads);  // the batch as further queries
  const auto mask = s.padding.defined() ? s.padding.bitwise_not().unsqueeze(1).unsqueeze(1) : Tensor();
  const auto z = attend(q, split_heads(keys, s.heads), split_heads(values, s.heads), mask, scale, s.steps);
  const auto merged = z.transpose(1, 2).flatten(2);
  return association->out_proj->forward(merged);
}

Tensor library_forward(Setup& s) {
  if (s.which.kind == "retrieve") return retrieve(s.input, s.stored, RetrieveOptions().fixed_steps(s.steps)).output;
  if (s.which.kind == "ragged") return s.pooling->pool_bags(s.bags);
  if (s.pooling) return s.pooling->forward(s.input);
  return s.layer ? s.layer->forward(s.input) : s.self->forward(s.input);
}

Work work(const Case& which, const std::function<Tensor(Setup&)>& forward) {
  const auto setup = std::make_shared<Setup>(which);
  return {[setup, forward] { return setup->run([&] { return forward(*setup); }); },
          [setup] { setup->drop_gradients(); }, setup->input_bytes(), setup->moved_bytes()};
}

}  // namespace

Work library_work(const Case& which) { return work(which, library_forward); }

Work sdpa_work(const Case& which, std::optional<at::SDPBackend> backend) {
  return work(which, [backend](Setup& setup) {
    std::optional<OnlyBackend> only;
    if (backend) only.emplace(*backend);
    return sdpa_forward(setup);
  });
}

}  // namespace hopfield::bench
