#pragma once

// A call of pooling for tests: described, drawn, and run on the device.

#include "../../support/hardware_errors.h"
#include "drawing.h"

#include <kernels/cuda/pool.h>

#include <algorithm>

namespace hopfield::kernels::cuda {

/// What is pooled.
struct Sample {
  std::vector<int64_t> bags;  ///< sizes
  int64_t heads = 2, queries = 3, depth = 8, width = 40, steps = 2;
  ElementType type = ElementType::float32;
  bool normalize = true, bias = true, key_bias = false;
  float shift = 0.0f, eps = 0.0f, dropout = 0.0f;
  double beta = 0.5;
  uint32_t seed = 1;
  bool plain_float32 = false;
  bool on_chip = false;  ///< where a bag fits, in slices of one tile: clusters of many blocks for small bags
};

/// Every number is one of the type that the call takes, but where the finite differences of a test move it.
inline PlainCall draw(const Sample& s) {
  PlainCall p;
  auto& call = p.call;
  p.offsets = offsets_of(s.bags);
  call.batch = static_cast<int64_t>(s.bags.size());
  call.heads = s.heads;
  call.queries = s.queries;
  call.keys = p.offsets.back();
  call.depth = s.depth;
  call.width = s.width;
  call.type = s.type;
  call.dropout = s.dropout;
  call.seed = kSeed;
  call.most_steps = s.steps;
  call.map.normalize = s.normalize;
  call.map.normalize_eps = 1e-5f;
  auto instances = random_doubles(call.keys * s.width, s.seed);
  for (auto& value : instances) value = rounded(static_cast<float>(value) + s.shift, s.type);
  call.stored.row = padded_row(s.width);
  p.stored = with_padding(instances, s.width);
  p.weight = random_doubles(s.heads * s.depth * s.width, s.seed + 1);
  for (auto& value : p.weight) value = static_cast<float>(value / std::sqrt(static_cast<double>(s.width)));
  if (s.bias) p.bias = random_doubles(s.heads * s.depth, s.seed + 2);
  if (s.key_bias) {
    p.key_bias = random_doubles(call.keys, s.seed + 3);
    for (size_t i = 0; i < p.key_bias.size(); i += 3) {
      p.key_bias[i] = -kInfinity;
      std::fill_n(p.stored.begin() + static_cast<int64_t>(i) * call.stored.row, s.width, std::nan(""));
    }
  }
  call.state = {nullptr, 0, s.queries * s.depth, s.depth};  // all bags share the queries
  p.state = random_doubles(s.heads * s.queries * s.depth, s.seed + 4);
  p.beta.assign(static_cast<size_t>(s.heads), s.beta);
  p.eps.assign(static_cast<size_t>(s.heads), s.eps);
  p.steps_max.assign(static_cast<size_t>(s.heads), s.steps);
  return p;
}

/// A call on the device, with all that it reads and writes. What is not written holds NaN.
class Device {
 public:
  Device(const Sample& s, const PlainCall& p)
      : rows_(static_cast<size_t>(p.call.rows())),
        stored_(hopfield::testing::to_type(p.stored, s.type)),
        offsets_(p.offsets),
        steps_max_(p.steps_max),
        weight_(as_floats(p.weight)),
        bias_(as_floats(p.bias)),
        key_bias_(as_floats(p.key_bias)),
        first_state_(as_floats(p.state)),
        beta_(as_floats(p.beta)),
        eps_(as_floats(p.eps)),
        output(rows_ * static_cast<size_t>(s.width), kNan),
        state(rows_ * static_cast<size_t>(s.depth), kNan),
        logsumexp(rows_, kNan),
        residual(rows_, kNan),
        mass(rows_, kNan),
        scores(static_cast<size_t>(p.call.keys * s.heads * s.queries), kNan),
        saved_states(rows_ * static_cast<size_t>(s.steps * s.depth), kNan),
        saved_sums(rows_ * static_cast<size_t>(2 * (s.steps + 1)), kNan),
        saved_means(rows_ * static_cast<size_t>(s.steps * s.width), kNan),
        steps(rows_, -1),
        converged_(rows_, 7) {
    static_cast<Call&>(call) = p.call;
    call.stored.data = stored_.data();
    call.state.data = first_state_.data();
    call.offsets = offsets_.data();
    if (s.key_bias) call.key_bias = key_bias_.data();
    call.map.weight = weight_.data();
    if (s.bias) call.map.bias = bias_.data();
    call.beta = beta_.data();
    call.eps = eps_.data();
    call.steps_max = steps_max_.data();
    call.plain_float32 = s.plain_float32;
    if (!s.on_chip) call.most_cluster = 0;
    call.most_slice_tiles = 1;
    const DeviceArray<unsigned char> workspace(pool_workspace_size(call), 0xFF);
    const auto error = pool_forward(call, outputs(), workspace.data(), nullptr);
    if (!error.empty()) throw std::runtime_error(error);
    output.download();  // waits before the workspace goes
  }

  Outputs outputs() const {
    Outputs out;
    out.output.data = output.data();
    out.state.data = state.data();
    out.logsumexp = logsumexp.data();
    out.residual = residual.data();
    out.mass = mass.data();
    out.steps = steps.data();
    out.converged = reinterpret_cast<bool*>(converged_.data());
    out.scores = scores.data();
    out.saved.states = saved_states.data();
    out.saved.sums = saved_sums.data();
    out.saved.means = saved_means.data();
    return out;
  }

  /// What the backward pass gets from the forward pass.
  Saved saved() const {
    auto saved = outputs().saved;
    saved.output = output.data();
    saved.mass = mass.data();
    return saved;
  }

  PoolCall call;

 private:
  static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

  size_t rows_;
  DeviceArray<unsigned char> stored_;
  DeviceArray<int64_t> offsets_, steps_max_;
  DeviceArray<float> weight_, bias_, key_bias_, first_state_, beta_, eps_;

 public:
  DeviceArray<float> output, state, logsumexp, residual, mass, scores, saved_states, saved_sums, saved_means;
  DeviceArray<int64_t> steps;

 private:
  DeviceArray<uint8_t> converged_;
};

}  // namespace hopfield::kernels::cuda
