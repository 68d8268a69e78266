// The fused kernels of the GPU. Nothing here waits for the device. Compiled by the host's compiler.

#include "ops/kernels_cuda.h"

#include "ops/kernel_call.h"
#include "ops/launch_context.h"
#include "ops/nonfinite.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <kernels/cuda/pool.h>
#include <kernels/cuda/retrieve.h>

#include <algorithm>

namespace hopfield::detail {
namespace {

namespace cuda = kernels::cuda;

/// Patterns whose rows begin at multiples of 16 bytes: as they are, or a copy with padding behind each row.
at::Tensor with_aligned_rows(const at::Tensor& patterns) {
  const auto in_piece = static_cast<int64_t>(16 / patterns.element_size());
  const auto last = patterns.dim() - 1, width = patterns.size(last);
  bool aligned =
      reinterpret_cast<uintptr_t>(patterns.data_ptr()) % 16 == 0 && (patterns.stride(last) == 1 || width <= 1);
  for (int64_t i = 0; i < last; ++i) aligned = aligned && (patterns.size(i) == 1 || patterns.stride(i) % in_piece == 0);
  if (aligned || patterns.numel() == 0) return patterns;
  auto shape = patterns.sizes().vec();
  shape.back() = (width + in_piece - 1) / in_piece * in_piece;
  auto copy = at::empty(shape, patterns.options()).narrow(last, 0, width);
  copy.copy_(patterns);
  return copy;
}

at::Tensor contiguous(const at::Tensor& tensor) { return tensor.contiguous(); }

at::TensorOptions options_of(const at::Tensor& tensor) { return tensor.options().requires_grad(false); }

at::Tensor plain_floats(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.detach().to(at::kFloat).contiguous() : at::Tensor();
}

/// Whether LibTorch is asked for float32 products of float32.
bool wants_plain_float32() {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) !=
         at::Float32Precision::TF32;
}

/// Whether the stop rule compares a threshold with the change of a state, or of the association of that state.
bool compares_states(const RetrieveSettings& settings) {
  const auto& eps = settings.update_steps_eps.values();
  return makes_updates(settings) && std::any_of(eps.begin(), eps.end(), [](double value) { return value > 0; });
}

at::Tensor workspace_of(size_t bytes, const at::Tensor& like) {
  return at::empty({static_cast<int64_t>(bytes)}, options_of(like).dtype(at::kByte));
}

void check_launch(const OpCall& call, const std::string& error) {
  TORCH_CHECK(error.empty(), call.name(), ": ", error);
}

// Retrieval.

/// The kernels read keys that a mask of single scores hides from all queries, and the weight 0 times NaN is NaN.
OpCall without_hidden_patterns(OpCall call) {
  if (!call.input.masks.association_mask.defined()) return call;
  auto values = call.input;
  call.input = with_hidden_nonfinite_zeroed(std::move(call.input));
  if (!values.projection.defined()) return call;
  values.stored = values.projection;
  call.input.projection = with_hidden_nonfinite_zeroed(std::move(values)).stored;
  return call;
}

struct RetrieveOnDevice {
  explicit RetrieveOnDevice(const OpCall& given)
      : tensors(without_hidden_patterns(given), given.input.masks, with_aligned_rows) {
    static_cast<kernels::Call&>(call) = tensors.call;
    call.plain_float32 = wants_plain_float32();
    call.exact_states = compares_states(given.settings);
  }
  KernelCall tensors;
  cuda::RetrieveCall call;
};

std::optional<std::string> reason_against_retrieve(const OpCall& given) {
  const auto& in = given.input;
  cuda::RetrieveCall shape;
  shape.type = element_type(in.stored);
  shape.exact_states = compares_states(given.settings);
  shape.most_steps = makes_updates(given.settings) ? 1 : 0;
  shape.per_head = stops_per_head(given.settings);
  shape.depth = in.state.size(-1);
  shape.width = in.projection.defined() ? in.projection.size(-1) : shape.depth;
  if (auto reason = cuda::retrieve_reason_against(shape); !reason.empty()) return reason;
  if (!needs_gradient(given)) return std::nullopt;
  if (in.projection.defined()) shape.values.data = in.projection.data_ptr();
  if (auto reason = cuda::retrieve_backward_reason_against(shape); !reason.empty()) return reason;
  if (has_implicit_gradient(given.settings)) {
    shape.type = kernels::ElementType::float32;  // the solver's
    shape.values.data = nullptr;
    if (auto reason = cuda::retrieve_backward_reason_against(shape); !reason.empty()) return reason;
  }
  return std::nullopt;
}

PoolResult forward_retrieve(const OpCall& given, Saved* saved, cuda::Stream stream) {
  const RetrieveOnDevice on_device(given);
  const auto& [tensors, c] = on_device;
  const auto patterns = options_of(given.input.state);
  PoolResult r;
  auto out = tensors.make_outputs(r, patterns, true, given.settings.with_scores);
  if (saved != nullptr) {
    const auto states = tensors.rows_of_steps(c.most_steps, cuda::retrieve_saved_row(c));
    saved->states = at::empty(states, patterns);
    if (c.exact_states && c.type != kernels::ElementType::float32) saved->rounding_error = at::empty(states, patterns);
    saved->sums = at::empty(tensors.rows_of_steps(c.most_steps + 1, 2), r.logsumexp.options());
    out.saved = KernelCall::pointers(*saved);
  }
  const auto workspace = workspace_of(cuda::retrieve_workspace_size(c), given.input.state);
  check_launch(given, cuda::retrieve_forward(c, out, workspace.data_ptr(), stream));
  return r;
}

/// A gradient of patterns, first in the form in which the kernels write it.
class PatternGradient {
 public:
  /// @param patterns  undefined: no gradient
  PatternGradient(const at::Tensor& patterns, const cuda::RetrieveCall& call) : patterns_(patterns) {
    if (!patterns.defined()) return;
    const auto form = cuda::pattern_gradient_form(call);
    const int64_t heads = form.all_heads ? 1 : call.heads, width = patterns.size(-1);
    const auto shape = call.is_ragged()
                           ? std::vector<int64_t>{form.parts, call.keys, heads, width}
                           : std::vector<int64_t>{form.parts, form.all_batch ? 1 : call.batch, heads, call.keys, width};
    const auto options = options_of(patterns);
    written_ = at::empty(shape, form.parts > 1 ? options.dtype(at::kFloat) : options);
    // No kernel writes rows that belong to no bag, nor the gradients of patterns that no query retrieves from.
    if (call.is_ragged() || call.rows() == 0) written_.zero_();
  }

  /// Where the kernels write its first part.
  kernels::Strided target() const {
    if (!written_.defined()) return {};
    if (written_.dim() == 4) return {written_.data_ptr(), 0, written_.stride(2), written_.stride(1)};
    return {written_.data_ptr(), written_.stride(1), written_.stride(2), written_.stride(3)};
  }
  int64_t part_size() const { return written_.defined() ? written_.stride(0) : 0; }

  /// The gradient, in the shape of the patterns.
  at::Tensor sum() const {
    if (!written_.defined()) return {};
    const auto all = written_.size(0) > 1 ? written_.sum(0) : written_.select(0, 0);
    return all.sum_to_size(patterns_.sizes()).to(patterns_.scalar_type());
  }

 private:
  at::Tensor patterns_, written_;
};

KernelGradients backward_retrieve(const OpCall& given, const Saved& saved, const PoolResult& incoming,
                                  bool wants_patterns, cuda::Stream stream) {
  RetrieveOnDevice on_device(with_own_patterns(given));
  auto& [tensors, c] = on_device;
  KernelGradients result;
  auto g = tensors.make_gradients(given, saved, incoming, options_of(given.input.state), with_aligned_rows, result);
  const auto wanted = [&](const at::Tensor& patterns) { return wants_patterns ? patterns : at::Tensor(); };
  const PatternGradient stored(wanted(given.input.stored), c), values(wanted(given.input.projection), c);
  g.stored = stored.target();
  g.values = values.target();
  const auto workspace = workspace_of(cuda::retrieve_backward_workspace_size(c), given.input.state);
  check_launch(given,
               cuda::retrieve_backward(c, g, {stored.part_size(), values.part_size()}, workspace.data_ptr(), stream));
  result.stored = stored.sum();
  result.projection = values.sum();
  return result;
}

// Pools.

/// Bags one after the other, which is the form that the kernels take.
OpCall as_bags(OpCall call) {
  auto& in = call.input;
  if (in.offsets.defined()) return call;
  const auto bags = in.stored.size(0), keys = in.stored.size(2);
  auto bias = joined_key_bias(in.masks, options_of(in.stored).dtype(at::kFloat));
  if (bias.defined()) bias = bias.flatten(1).expand({bags, keys}).reshape({-1});
  in.masks = Masks({}, {}, bias);
  in.stored = in.stored.reshape({bags * keys, 1, in.stored.size(-1)});
  in.offsets = at::arange(bags + 1, options_of(in.stored).dtype(at::kLong)) * keys;
  return call;
}

struct PoolOnDevice {
  explicit PoolOnDevice(const OpCall& given) : PoolOnDevice(given, as_bags(given)) {}
  PoolOnDevice(const OpCall& given, const OpCall& bags) : tensors(bags, bags.input.masks, with_aligned_rows) {
    // Queries that all bags share are not repeated in memory.
    const auto& queries = given.input.state;
    const bool shared = queries.size(0) > 0 && tensors.call.state.batch == 0;
    state = plain_floats(shared ? queries.narrow(0, 0, 1) : queries);
    tensors.call.state = strided(state);
    tensors.set_map(given, plain_floats(given.weight), {}, plain_floats(given.bias));
    static_cast<kernels::Call&>(call) = tensors.call;
    call.plain_float32 = wants_plain_float32();
    if (!given.input.offsets.defined()) call.smallest_bag = call.largest_bag = given.input.stored.size(2);
  }
  KernelCall tensors;
  at::Tensor state;  ///< float32 and contiguous
  cuda::PoolCall call;
};

std::optional<std::string> reason_against_pool(const OpCall& given) {
  cuda::PoolCall shape;
  shape.depth = given.weight.size(1);
  shape.width = given.weight.size(2);
  shape.type = element_type(given.input.stored);
  if (auto reason = cuda::pool_reason_against(shape); !reason.empty()) return reason;
  if (given.input.masks.association_mask.defined()) return "the fused kernels of the GPU take no association mask";
  if (stops_per_head(given.settings)) return "the GPU's pooling has the stop rule per_query alone";
  return std::nullopt;
}

PoolResult forward_pool(const OpCall& given, Saved* saved, cuda::Stream stream) {
  const PoolOnDevice on_device(given);
  const auto& tensors = on_device.tensors;
  const auto& c = on_device.call;
  const auto& instances = given.input.stored;
  const auto floats = options_of(instances).dtype(at::kFloat);
  PoolResult r;
  auto out = tensors.make_outputs(r, floats, false, given.settings.with_scores);
  if (saved != nullptr) {
    // Zeros, since rows that stop early make no further updates.
    saved->states = at::zeros(tensors.rows_of_steps(c.most_steps, c.depth), floats);
    saved->sums = at::zeros(tensors.rows_of_steps(c.most_steps + 1, 2), floats);
    saved->means = at::zeros(tensors.rows_of_steps(c.most_steps, c.width), floats);
    out.saved = KernelCall::pointers(*saved);
    saved->output = r.output;
  }
  const auto workspace = workspace_of(cuda::pool_workspace_size(c), instances);
  check_launch(given, cuda::pool_forward(c, out, workspace.data_ptr(), stream));
  if (saved != nullptr) saved->mass = r.mass.clone();
  // The caller may change results in place.
  r.output = r.output.to(instances.scalar_type(), /*non_blocking=*/false, /*copy=*/saved != nullptr);
  r.state = r.state.to(instances.scalar_type());
  // Dense bags: [N, H, L, S], like retrieve.
  if (r.scores.defined() && !given.input.offsets.defined()) {
    r.scores = r.scores.view({c.batch, instances.size(2), c.heads, c.queries}).permute({0, 2, 3, 1}).contiguous();
  }
  return r;
}

KernelGradients backward_pool(const OpCall& given, const Saved& saved, const PoolResult& incoming, bool wants_patterns,
                              cuda::Stream stream) {
  PoolOnDevice on_device(given);
  auto& tensors = on_device.tensors;
  const auto& c = on_device.call;
  const auto& instances = given.input.stored;
  KernelGradients result;
  result.state = at::zeros(tensors.rows({c.depth}), options_of(instances).dtype(at::kFloat));
  auto g = tensors.make_gradients(given, saved, incoming, options_of(instances).dtype(at::kFloat), contiguous, result);
  // Rows that stop early have no further associations, and the kernels write nothing for these.
  result.products.zero_();
  result.states.zero_();
  if (wants_patterns) {
    result.stored = at::empty(instances.sizes(), options_of(instances));
    if (c.rows() == 0) result.stored.zero_();
    g.stored = {result.stored.data_ptr(), 0, 0, c.width};
  }
  const auto workspace = workspace_of(cuda::pool_backward_workspace_size(c, g), instances);
  check_launch(given, cuda::pool_backward(c, g, workspace.data_ptr(), stream));
  return result;
}

// Both ops.

std::optional<std::string> reason_against(const OpCall& call) {
  const auto type = call.input.stored.scalar_type();
  if (type != at::kFloat && type != at::kBFloat16 && type != at::kHalf) {
    return c10::str("the fused kernels of the GPU take float32, bfloat16 and float16, not ", type);
  }
  const LaunchContext context(call.input.stored);
  return call.is_pool() ? reason_against_pool(call) : reason_against_retrieve(call);
}

std::string describe(const OpCall& call) {
  const LaunchContext context(call.input.stored);
  const auto most = cuda::pool_most_on_chip(PoolOnDevice(call).call);
  const std::string how = "the fused kernels of the GPU; ";
  if (most < 0) return how + "bags are read once for each association";
  return c10::str(how, "bags of up to ", most, " instances are read once, larger ones once for each association");
}

PoolResult forward(const OpCall& call, Saved* saved) {
  const LaunchContext context(call.input.stored);
  return call.is_pool() ? forward_pool(call, saved, context.stream()) : forward_retrieve(call, saved, context.stream());
}

KernelGradients backward(const OpCall& call, const Saved& saved, const PoolResult& incoming, bool wants_patterns) {
  const LaunchContext context(call.input.stored);
  return call.is_pool() ? backward_pool(call, saved, incoming, wants_patterns, context.stream())
                        : backward_retrieve(call, saved, incoming, wants_patterns, context.stream());
}

}  // namespace

const DeviceKernels kCudaKernels{reason_against, false, false, describe, forward, backward};

}  // namespace hopfield::detail
