// The fused kernels of the CPU.

#include "ops/autograd_helpers.h"
#include "ops/kernel_call.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <kernels/cpu/retrieve.h>
#include <kernels/cpu/tile_ops.h>

#include <algorithm>
#include <atomic>
#include <limits>

namespace hopfield::detail {
namespace {

/// LibTorch's threads for the kernels. Tasks are handed out one by one, since bags differ in size.
const kernels::Parallel& on_threads() {
  static const kernels::Parallel parallel = [](int64_t tasks, const std::function<void(int64_t)>& call) {
    const auto threads = at::in_parallel_region() ? 1 : std::min<int64_t>(tasks, at::get_num_threads());
    if (threads <= 1) {
      for (int64_t task = 0; task < tasks; ++task) call(task);
      return;
    }
    std::atomic<int64_t> next{0};
    at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
      for (auto task = next++; task < tasks; task = next++) call(task);
    });
  };
  return parallel;
}

at::Tensor with_contiguous_rows(const at::Tensor& tensor) {
  return tensor.stride(-1) == 1 || tensor.size(-1) <= 1 ? tensor : tensor.contiguous();
}

/// In float32, with rows that are padded with zeros to the kernels' width.
at::Tensor padded_rows(const at::Tensor& tensor) {
  const auto width = tensor.size(-1);
  return at::constant_pad_nd(tensor.detach().to(at::kFloat), {0, kernels::padded(width) - width}).contiguous();
}

/// Patterns that the whole batch shares have one key bias. Where the batch masks them differently, padding and key bias
/// become a mask of single scores.
Masks with_shared_key_bias(const OpCall& call) {
  auto masks = call.input.masks;
  if (call.input.offsets.defined() || strided(call.input.stored).batch != 0) return masks;
  const auto bias = joined_key_bias(masks, call.input.state.options().dtype(at::kFloat).requires_grad(false));
  if (!bias.defined() || bias.size(0) == 1) return masks;
  constexpr auto kInfinity = std::numeric_limits<double>::infinity();
  auto& mask = masks.association_mask;
  if (!mask.defined()) {
    mask = bias;
  } else if (mask.scalar_type() == at::kBool) {
    mask = at::where(mask, -kInfinity, bias);
  } else {
    mask = at::where(at::isneginf(mask).bitwise_or(at::isneginf(bias)), -kInfinity, mask + bias);
  }
  masks.padding_mask = masks.key_bias = at::Tensor();
  return masks;
}

class CpuCall : public KernelCall {
 public:
  explicit CpuCall(const OpCall& given) : KernelCall(given, with_shared_key_bias(given), with_contiguous_rows) {
    if (!given.is_pool()) return;
    set_map(given, padded_rows(given.weight), padded_rows(given.weight.transpose(1, 2)),
            given.bias.defined() ? padded_rows(given.bias) : at::Tensor());
  }
};

std::optional<std::string> reason_against(const OpCall& call) {
  const auto type = call.input.stored.scalar_type();
  if (type == at::kFloat || type == at::kBFloat16) return std::nullopt;
  return c10::str("the fused kernels of the CPU take float32 and bfloat16, not ", type);
}

std::string describe(const OpCall&) { return "the fused kernels of the CPU"; }

PoolResult forward(const OpCall& given, Saved* saved) {
  const CpuCall call(given);
  const auto& c = call.call;
  PoolResult r;
  auto out = call.make_outputs(r, given.input.stored.options().requires_grad(false), true, given.settings.with_scores);
  if (saved != nullptr) {
    const auto floats = r.logsumexp.options();
    saved->states = at::empty(call.rows_of_steps(c.most_steps, c.depth), floats);
    saved->sums = at::empty(call.rows_of_steps(c.most_steps + 1, 2), floats);
    if (!given.settings.separation.is_sparse()) saved->output = at::empty(call.rows({c.width}), floats);
    if (c.is_pool()) saved->means = at::zeros(call.rows_of_steps(c.most_steps, c.width), floats);
    out.saved = KernelCall::pointers(*saved);
  }
  kernels::retrieve_forward(c, out, on_threads());
  if (saved != nullptr && c.is_pool()) saved->mass = r.mass.clone();
  return r;
}

KernelGradients backward(const OpCall& given, const Saved& saved, const PoolResult& incoming, bool wants_patterns) {
  CpuCall call(with_own_patterns(given));
  const auto& c = call.call;
  KernelGradients result;
  result.state = gradient_like(given.input.state);
  auto g = call.make_gradients(given, saved, incoming, saved.sums.options(), with_contiguous_rows, result);
  if (wants_patterns) {  // one walk over the patterns finds both
    const auto make = [&](const at::Tensor& patterns, kernels::Strided& place) {
      auto gradient = gradient_like(patterns);
      if (c.rows() == 0) gradient.zero_();  // no query asks for them
      place = strided(gradient);
      return gradient;
    };
    result.stored = make(given.input.stored, g.stored);
    if (given.input.projection.defined()) result.projection = make(given.input.projection, g.values);
  }
  if (c.rows() > 0) kernels::retrieve_backward(c, g, on_threads());
  return result;
}

const RegisterDeviceKernels kRegistration(c10::DeviceType::CPU,
                                          {reason_against, true, true, describe, forward, backward});

}  // namespace
}  // namespace hopfield::detail
