#include "ops/cpu_call.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

at::Tensor with_contiguous_rows(const at::Tensor& tensor) {
  return !tensor.defined() || tensor.stride(-1) == 1 || tensor.size(-1) <= 1 ? tensor : tensor.contiguous();
}

/// Padded to the kernels' width, in float32.
at::Tensor padded_rows(const at::Tensor& tensor) {
  const auto width = tensor.size(-1);
  return at::constant_pad_nd(tensor.detach().to(at::kFloat), {0, kernels::padded(width) - width}).contiguous();
}

}  // namespace

kernels::Tensor4 strides_of(const at::Tensor& tensor) {
  kernels::Tensor4 result;
  result.data = tensor.data_ptr();
  const bool ragged = tensor.dim() == 3;
  result.batch = ragged || tensor.size(0) == 1 ? 0 : tensor.stride(0);
  result.head = tensor.size(1) == 1 ? 0 : tensor.stride(1);
  result.row = tensor.stride(ragged ? 0 : 2);
  return result;
}

CpuCall::CpuCall(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed)
    : state_(with_contiguous_rows(input.state)),
      stored_(with_contiguous_rows(input.stored)),
      projection_(with_contiguous_rows(input.projection)) {
  const bool ragged = input.offsets.defined();
  p_.batch = state_.size(0);
  p_.heads = state_.size(1);
  p_.queries = state_.size(2);
  p_.depth = stored_.size(-1);
  p_.keys = stored_.size(ragged ? 0 : 2);
  p_.width = (projection_.defined() ? projection_ : stored_).size(-1);
  p_.type = state_.scalar_type() == at::kFloat ? kernels::Type::float32 : kernels::Type::bfloat16;
  p_.batch_shared = !ragged && stored_.size(0) == 1;
  p_.heads_shared = stored_.size(1) == 1;
  if (ragged) {
    offsets_ = input.offsets.to(at::kCPU, at::kLong).contiguous();
    p_.offsets = offsets_.data_ptr<int64_t>();
  }
  p_.state = strides_of(state_);
  p_.stored = strides_of(stored_);
  p_.own_values = projection_.defined();
  if (p_.own_values) p_.values = strides_of(projection_);
  set_iteration(settings);
  set_masks(input);
  p_.compares_heads = settings.stop_rule == StopRule::per_head;
  p_.dropout = settings.dropout;
  p_.seed = seed;
}

CpuCall::CpuCall(const RetrieveInput& input, const PoolInput& pool, const RetrieveSettings& settings, uint64_t seed)
    : CpuCall(input, settings, seed) {
  weight_ = padded_rows(pool.weight);
  transposed_ = padded_rows(pool.weight.transpose(1, 2));
  map_.weight = weight_.data_ptr<float>();
  map_.transposed = transposed_.data_ptr<float>();
  if (pool.bias.defined()) {
    bias_ = padded_rows(pool.bias);
    map_.bias = bias_.data_ptr<float>();
  }
  map_.depth = pool.weight.size(1);
  p_.map = &map_;
  p_.heads_shared = true;
  p_.normalize = pool.normalize_eps.has_value();
  p_.normalize_eps = static_cast<float>(pool.normalize_eps.value_or(0.0));
}

int64_t CpuCall::most_steps() const { return steps_.empty() ? 0 : *std::max_element(steps_.begin(), steps_.end()); }

void CpuCall::set_iteration(const RetrieveSettings& settings) {
  const auto per_head = [&](const auto& values, auto& target, auto convert) {
    for (int64_t h = 0; h < p_.heads; ++h) target.push_back(convert(values[values.size() == 1 ? 0 : h]));
  };
  per_head(settings.update_steps_max.values(), steps_,
           [&](int64_t steps) { return steps < 0 ? settings.update_steps_cap : steps; });
  per_head(settings.update_steps_eps.values(), eps_, [](double eps) { return static_cast<float>(eps); });
  std::vector<double> beta{1.0 / std::sqrt(static_cast<double>(std::max<int64_t>(state_.size(3), 1)))};
  if (settings.beta.defined()) {
    const auto given = settings.beta.detach().to(at::kCPU, at::kDouble).contiguous();
    beta.assign(given.data_ptr<double>(), given.data_ptr<double>() + given.numel());
  }
  per_head(beta, beta_, [](double value) { return static_cast<float>(value); });
  p_.steps_max = steps_.data();
  p_.eps = eps_.data();
  p_.beta = beta_.data();
}

/// Padding and key bias together are one number for each key; where patterns are shared by a batch that masks them
/// differently, they join the mask of single scores.
void CpuCall::set_masks(const RetrieveInput& input) {
  at::Tensor pair = input.masks.association_mask;
  if (input.masks.key_bias.defined()) key_bias_ = input.masks.key_bias.detach().to(at::kFloat);
  if (input.masks.padding_mask.defined()) {
    if (!key_bias_.defined()) key_bias_ = at::zeros({1}, at::kFloat);
    key_bias_ = at::where(input.masks.padding_mask, -kInfinity, key_bias_);
  }
  if (key_bias_.defined() && p_.offsets == nullptr && p_.batch_shared && key_bias_.size(0) > 1) {
    if (!pair.defined()) {
      pair = key_bias_;
    } else if (pair.scalar_type() == at::kBool) {
      pair = at::where(pair, -kInfinity, key_bias_);
    } else {
      pair = at::where(at::isneginf(pair).bitwise_or(at::isneginf(key_bias_)), -kInfinity, pair + key_bias_);
    }
    key_bias_ = at::Tensor();
  }
  if (key_bias_.defined()) {
    const bool ragged = p_.offsets != nullptr;
    key_bias_ = (ragged ? key_bias_ : key_bias_.flatten(1)).contiguous();
    p_.key_bias = key_bias_.data_ptr<float>();
    p_.key_bias_batch = ragged || key_bias_.size(0) == 1 ? 0 : p_.keys;
  }
  if (pair.defined()) {
    pair_ = pair.scalar_type() == at::kBool ? pair : pair.detach().to(at::kFloat);
    using Kind = kernels::PairMask::Kind;
    p_.pair.kind = pair_.scalar_type() == at::kBool ? Kind::boolean : Kind::float32;
    p_.pair.data = pair_.data_ptr();
    const auto stride = [&](int64_t dimension) { return pair_.size(dimension) == 1 ? 0 : pair_.stride(dimension); };
    p_.pair.batch = stride(0);
    p_.pair.head = stride(1);
    p_.pair.query = stride(2);
    p_.pair.key = stride(3);
  }
}

}  // namespace hopfield::detail
