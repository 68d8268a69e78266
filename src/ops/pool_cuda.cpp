#include "ops/pool_cuda.h"

#include "ops/cuda_call.h"
#include "ops/launch_context.h"

#include <ATen/ATen.h>

#include <kernels/cuda/pool.h>

#include <limits>

namespace hopfield::detail {
namespace {

namespace cuda = kernels::cuda;

/// A call in the kernels' terms, and the tensors that it points into.
class Call {
 public:
  Call(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed)
      : iteration_(settings, input.weight.size(0), input.weight.size(1),
                   input.instances.options().dtype(at::kFloat).requires_grad(false)) {
    const auto floats = input.instances.options().dtype(at::kFloat).requires_grad(false);
    const auto plain = [&](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.detach().to(floats).contiguous() : at::Tensor();
    };
    const bool ragged = input.offsets.defined();
    const auto& y = input.instances;
    auto& c = call;
    c.bags = ragged ? input.offsets.numel() - 1 : y.size(0);
    c.heads = input.weight.size(0);
    c.queries = input.state.size(2);
    c.depth = input.weight.size(1);
    c.width = input.weight.size(2);
    instances_ = with_aligned_rows(y.detach().reshape({-1, c.width}));
    c.total = instances_.size(0);
    c.instances = instances_.data_ptr();
    c.instance_row = instances_.stride(0);
    c.type = element_type(y);
    c.plain_float32 = wants_plain_float32();
    if (!ragged) c.smallest_bag = c.largest_bag = y.size(1);
    const auto counts = floats.dtype(at::kLong);
    offsets_ = ragged ? input.offsets.to(counts).contiguous() : at::arange(c.bags + 1, counts) * y.size(1);
    c.offsets = offsets_.data_ptr<int64_t>();
    set_key_bias(input, floats);
    weight_ = plain(input.weight);
    bias_ = plain(input.bias);
    state_ = plain(input.state);
    c.key_bias = float_pointer(key_bias_);
    c.weight = float_pointer(weight_);
    c.bias = float_pointer(bias_);
    c.state = float_pointer(state_);
    c.state_bag = state_.size(0) == c.bags && c.bags > 1 ? c.heads * c.queries * c.depth : 0;
    c.most_steps = iteration_.most_steps;
    c.steps_max = iteration_.steps_max.data_ptr<int64_t>();
    c.eps = float_pointer(iteration_.eps);
    c.beta = float_pointer(iteration_.beta);
    c.normalize = input.normalize_eps.has_value();
    c.normalize_eps = static_cast<float>(input.normalize_eps.value_or(0.0));
    c.dropout = static_cast<float>(settings.dropout);
    c.seed = seed;
    if (settings.gradient.kind() == Gradient::Kind::last) last_steps = settings.gradient.steps();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  std::vector<int64_t> rows(std::initializer_list<int64_t> more = {}) const {
    std::vector<int64_t> shape{call.bags, call.heads, call.queries};
    shape.insert(shape.end(), more);
    return shape;
  }
  at::Tensor workspace(size_t bytes) const {
    return at::empty({static_cast<int64_t>(bytes)}, instances_.options().dtype(at::kByte));
  }

  cuda::PoolCall call;
  int64_t last_steps = std::numeric_limits<int64_t>::max();

 private:
  void set_key_bias(const PoolInput& input, const at::TensorOptions& floats) {
    key_bias_ = joined_key_bias(input.masks.key_bias, input.masks.padding_mask, floats);
    if (!key_bias_.defined()) return;
    if (!input.offsets.defined()) key_bias_ = key_bias_.expand({call.bags, input.instances.size(1)});
    key_bias_ = key_bias_.reshape({-1}).contiguous();
  }

  const IterationOnDevice iteration_;
  at::Tensor instances_, offsets_, key_bias_, weight_, bias_, state_;
};

std::optional<std::string> reason_against(const PoolInput& input, const RetrieveSettings& settings) {
  if (auto reason = reason_against_type(input.instances); !reason.empty()) return reason;
  const LaunchContext context(input.instances);
  cuda::PoolCall shape;
  shape.depth = input.weight.size(1);
  shape.width = input.weight.size(2);
  shape.type = element_type(input.instances);
  if (auto reason = cuda::pool_reason_against(shape); !reason.empty()) return reason;
  if (input.masks.association_mask.defined()) return "the fused kernels of the GPU take no association mask";
  if (settings.stop_rule == StopRule::per_head && makes_updates(settings))
    return "the GPU's pooling has the stop rule per_query alone";
  return std::nullopt;
}

std::string describe(const PoolInput& input, const RetrieveSettings& settings) {
  const LaunchContext context(input.instances);
  const auto most = cuda::pool_most_on_chip(Call(input, settings, 0).call);
  std::string how = "the fused kernels of the GPU; ";
  if (most < 0) return how + "bags are read once for each association";
  return c10::str(how, "bags of up to ", most, " instances are read once, larger ones once for each association");
}

PoolResult forward(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved) {
  const LaunchContext context(input.instances);
  const Call call(input, settings, seed);
  const auto& c = call.call;
  const auto floats = input.instances.options().dtype(at::kFloat).requires_grad(false);
  const auto zeros = [&](std::vector<int64_t> shape) { return at::zeros(shape, floats); };
  PoolResult r;
  // Zeros: without rows no kernel runs.
  const auto output = zeros(call.rows({c.width})), state = zeros(call.rows({c.depth}));
  r.logsumexp = zeros(call.rows());
  r.residual = zeros(call.rows());
  r.mass = zeros(call.rows());
  r.steps = at::zeros(call.rows(), floats.dtype(at::kLong));
  const auto converged = at::zeros(call.rows(), floats.dtype(at::kByte));
  if (settings.with_scores) r.scores = at::empty({c.total, c.heads, c.queries}, floats);
  if (saved != nullptr) {
    const auto stepwise = [&](int64_t steps, int64_t width) {
      return at::zeros({steps, c.bags, c.heads, c.queries, width}, floats);
    };
    saved->states = stepwise(c.most_steps, c.depth);
    saved->sums = stepwise(c.most_steps + 1, 2);
    saved->means = stepwise(c.most_steps, c.width);
    saved->output = output;
  }
  const cuda::PoolOutputs outputs{float_pointer(output),
                                  float_pointer(state),
                                  float_pointer(r.logsumexp),
                                  float_pointer(r.residual),
                                  float_pointer(r.mass),
                                  r.steps.data_ptr<int64_t>(),
                                  converged.data_ptr<uint8_t>(),
                                  float_pointer(r.scores),
                                  saved != nullptr ? float_pointer(saved->states) : nullptr,
                                  saved != nullptr ? float_pointer(saved->sums) : nullptr,
                                  saved != nullptr ? float_pointer(saved->means) : nullptr};
  const auto workspace = call.workspace(cuda::pool_workspace_size(c));
  const auto error = cuda::pool_forward(c, outputs, workspace.data_ptr(), context.stream());
  TORCH_CHECK(error.empty(), "hopfield::pool: ", error);
  if (saved != nullptr) saved->mass = r.mass.clone();
  // The caller may change results in place.
  r.output = output.to(input.instances.scalar_type(), /*non_blocking=*/false, /*copy=*/saved != nullptr);
  r.state = state.to(input.instances.scalar_type());
  r.converged = converged.to(at::kBool);
  // Dense bags: [N, H, L, S], like retrieve.
  if (r.scores.defined() && !input.offsets.defined()) {
    r.scores = r.scores.view({c.bags, input.instances.size(1), c.heads, c.queries}).permute({0, 2, 3, 1}).contiguous();
  }
  return r;
}

PassedBack backward(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed, const Saved& saved,
                    const PoolResult& incoming, const at::Tensor& instances) {
  const LaunchContext context(input.instances);
  const Call call(input, settings, seed);
  const auto& c = call.call;
  const auto floats = saved.output.options();
  const auto plain = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.detach().to(at::kFloat).contiguous() : at::Tensor();
  };
  const auto output = incoming.output.defined() ? plain(incoming.output) : at::zeros_like(saved.output);
  const auto state = plain(incoming.state), logsumexp = plain(incoming.logsumexp), mass = plain(incoming.mass);
  PassedBack result;
  result.state = at::zeros(call.rows({c.depth}), floats);
  result.beta = at::zeros(call.rows(), floats);
  result.products = at::zeros({c.most_steps + 1, c.bags, c.heads, c.queries, c.width}, floats);
  result.states = at::zeros({c.most_steps, c.bags, c.heads, c.queries, c.depth}, floats);
  cuda::PoolGradients g;
  g.output = float_pointer(output);
  g.state = float_pointer(state);
  g.logsumexp = float_pointer(logsumexp);
  g.mass = float_pointer(mass);
  g.saved_states = float_pointer(saved.states);
  g.saved_sums = float_pointer(saved.sums);
  g.saved_means = float_pointer(saved.means);
  g.forward_output = float_pointer(saved.output);
  g.forward_mass = float_pointer(saved.mass);
  g.steps = saved.steps.data_ptr<int64_t>();
  g.last_steps = call.last_steps;
  at::Tensor written;
  if (instances.defined() && c.total > 0) {
    written =
        instances.is_contiguous() ? instances.view({-1, c.width}) : at::empty({c.total, c.width}, instances.options());
    g.instances = written.data_ptr();
    g.instance_row = c.width;
    if (c.heads * c.queries == 0) written.zero_();
  }
  g.query = float_pointer(result.state);
  g.beta = float_pointer(result.beta);
  g.products = float_pointer(result.products);
  g.states = float_pointer(result.states);
  const auto workspace = call.workspace(cuda::pool_backward_workspace_size(c, g));
  const auto error = cuda::pool_backward(c, g, workspace.data_ptr(), context.stream());
  TORCH_CHECK(error.empty(), "hopfield::pool: ", error);
  if (written.defined() && !instances.is_contiguous()) instances.copy_(written.view(instances.sizes()));
  return result;
}

}  // namespace

const PoolPasses kPoolCudaPasses{reason_against, describe, forward, backward};

}  // namespace hopfield::detail
