#include "ops/cpu_passes.h"
#include "ops/pool_passes.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

namespace hopfield::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// beta xi . b of each query [N, H, L], in float32: what the kernels leave out of all its scores. Nothing where there
/// is nothing to attend to, so that a logsumexp of -inf passes no gradient on.
at::Tensor constant_scores(const PoolResult& result, const PoolInput& input, const RetrieveSettings& settings) {
  const auto products = (result.state.to(at::kFloat) * input.bias.to(at::kFloat).unsqueeze(1)).sum(-1);
  const auto constants = products.masked_fill(at::isneginf(result.logsumexp.detach()), 0.0);
  const auto& beta = settings.beta;
  const auto depth = std::max<int64_t>(result.state.size(-1), 1);
  if (!beta.defined()) return constants / std::sqrt(static_cast<double>(depth));
  return constants * (beta.dim() == 1 ? beta.to(at::kFloat).unsqueeze(1) : beta.to(at::kFloat));
}

/// beta of each head [H, 1, 1] or [1, 1, 1], in float32 on the device of `like`.
at::Tensor head_beta(const at::Tensor& like, const PoolInput& input, const RetrieveSettings& settings) {
  if (settings.beta.defined()) return settings.beta.detach().to(like.options()).view({-1, 1, 1});
  return at::full({1, 1, 1}, 1.0 / std::sqrt(static_cast<double>(std::max<int64_t>(input.weight.size(1), 1))),
                  like.options());
}

const PoolPasses& passes_for(const PoolInput& input) { return *pool_passes(input.instances.device().type()); }

at::Tensor bag_lengths(const PoolInput& input) { return at::diff(input.offsets.to(at::kLong)); }

struct Gradients {
  at::Tensor instances, state, weight, bias, beta;
};

/// [steps, N, H, L, width] as [H, steps * N * L, width].
at::Tensor by_head(const at::Tensor& rows) { return rows.permute({2, 0, 1, 3, 4}).flatten(1, 3); }

Gradients run_backward(const PoolInput& input, RetrieveSettings settings, uint64_t seed, Saved saved,
                       const at::Tensor& steps, const PoolResult& incoming, bool wants_instances) {
  const auto& passes = passes_for(input);
  if (!keeps_states(settings)) {
    settings = replay_settings(std::move(settings), steps);
    passes.forward(input, settings, seed, &saved);
  }
  Gradients result;
  if (wants_instances) result.instances = gradient_like(input.instances);
  const auto passed = passes.backward(input, settings, seed, saved, steps, incoming, result.instances);
  const bool is_shared = input.state.size(0) != steps.size(0);
  const auto state = is_shared ? passed.state.sum(0, /*keepdim=*/true) : passed.state;
  result.state = state.to(input.state.scalar_type());
  // Scores are beta xi W y and updates W w + b: each association's state goes with its dS Y, each update's gradient
  // with its mean.
  const auto all_states = at::cat({as_retrieve_input(input).state.detach().to(at::kFloat).unsqueeze(0), saved.states});
  const auto beta = head_beta(passed.beta, input, settings);
  const auto from_scores = (by_head(all_states) * beta).transpose(1, 2).bmm(by_head(passed.products));
  const auto from_updates = by_head(passed.states).transpose(1, 2).bmm(by_head(saved.means));
  result.weight = (from_scores + from_updates).to(input.weight.scalar_type());
  if (input.bias.defined()) result.bias = by_head(passed.states).sum(1).to(input.bias.scalar_type());
  if (settings.beta.defined()) result.beta = beta_gradient(passed.beta, settings.beta);
  return result;
}

/// Gradients that can be differentiated again.
Gradients differentiable_backward(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed,
                                  const PoolResult& incoming) {
  const auto r = pool_composite(input, settings, seed);
  const auto raw = input.bias.defined() ? r.logsumexp - constant_scores(r, input, settings) : r.logsumexp;
  const auto g = differentiable_gradients({r.output, r.state, r.mass, raw},
                                          {incoming.output, incoming.state, incoming.mass, incoming.logsumexp},
                                          {input.instances, input.state, input.weight, input.bias, settings.beta});
  return {g[0], g[1], g[2], g[3], g[4]};
}

/// Everything of a call but the tensors that autograd follows.
struct Rest : torch::CustomClassHolder {
  PoolInput input;
  RetrieveSettings settings;
  uint64_t seed = 0;
  bool own_bias = false, own_beta = false;  // otherwise their places hold something that is not looked at
};

class FusedPool : public torch::autograd::Function<FusedPool> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& instances, const at::Tensor& state,
                               const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& beta,
                               const c10::intrusive_ptr<Rest>& rest) {
    auto [input, settings] = with_followed(*rest, {instances, state, weight, bias, beta});
    Saved saved;
    const auto r = passes_for(input).forward(input, settings, rest->seed, keeps_states(settings) ? &saved : nullptr);
    ctx->save_for_backward(
        {instances, state, weight, bias, beta, saved.states, saved.sums, saved.means, saved.output, r.mass, r.steps});
    ctx->saved_data["rest"] = c10::IValue::make_capsule(rest);
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable({r.residual, r.steps, r.converged});
    return {r.output, r.state, r.logsumexp, r.mass, r.residual, r.steps, r.converged};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    // A backward pass that is called under autocast would lower its products.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto tensors = ctx->get_saved_variables();
    const auto rest = c10::static_intrusive_pointer_cast<Rest>(ctx->saved_data["rest"].toCapsule());
    const auto [input, settings] = with_followed(*rest, tensors);
    check_replay("hopfield::pool", settings, input.instances);
    PoolResult incoming;
    incoming.output = gradients[0];
    incoming.state = gradients[1];
    incoming.logsumexp = gradients[2];
    incoming.mass = gradients[3];
    const Saved saved{tensors[5], tensors[6], tensors[8], tensors[7], tensors[9], {}};
    const auto g = at::GradMode::is_enabled() ? differentiable_backward(input, settings, rest->seed, incoming)
                                              : run_backward(input, settings, rest->seed, saved, tensors[10], incoming,
                                                             ctx->needs_input_grad(0));
    return {g.instances, g.state, g.weight, g.bias, g.beta, at::Tensor()};
  }

 private:
  static std::pair<PoolInput, RetrieveSettings> with_followed(const Rest& rest, const variable_list& tensors) {
    auto input = rest.input;
    auto settings = rest.settings;
    input.instances = tensors[0];
    input.state = tensors[1];
    input.weight = tensors[2];
    if (rest.own_bias) input.bias = tensors[3];
    if (rest.own_beta) settings.beta = tensors[4];
    return {input, settings};
  }
};

PassesOfDevices<PoolPasses>& all_passes() {
  static PassesOfDevices<PoolPasses> passes;
  return passes;
}

}  // namespace

const PoolPasses* pool_passes(c10::DeviceType device) { return all_passes().find(device); }

RegisterPoolPasses::RegisterPoolPasses(c10::DeviceType device, const PoolPasses& passes) {
  all_passes().set(device, passes);
}

PoolResult pool_fused(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed) {
  const auto& s = settings;
  PoolResult r;
  if (!any_needs_gradient({input.instances, input.state, input.weight, input.bias, s.beta})) {
    r = passes_for(input).forward(input, settings, seed, nullptr);
  } else {
    auto rest = c10::make_intrusive<Rest>();
    rest->input = input;
    rest->settings = settings;
    rest->seed = seed;
    rest->own_bias = input.bias.defined();
    rest->own_beta = s.beta.defined();
    // The node keeps these as saved variables, which notice changes in place and do not hold the graph in a circle.
    auto& kept = rest->input;
    kept.instances = kept.state = kept.weight = kept.bias = rest->settings.beta = at::Tensor();
    const auto nothing = at::empty({0});
    const auto outputs =
        FusedPool::apply(input.instances, input.state, input.weight, rest->own_bias ? input.bias : nothing,
                         rest->own_beta ? s.beta : nothing, rest);
    r.output = outputs[0];
    r.state = outputs[1];
    r.logsumexp = outputs[2];
    r.mass = outputs[3];
    r.residual = outputs[4];
    r.steps = outputs[5];
    r.converged = outputs[6];
  }
  if (input.bias.defined()) {
    const auto constants = constant_scores(r, input, settings);
    r.logsumexp = r.logsumexp + constants;
    if (r.scores.defined()) {
      // With its size known, repeat_interleave() need not wait for the lengths.
      r.scores = r.scores + (input.offsets.defined()
                                 ? at::repeat_interleave(constants, bag_lengths(input), 0, input.instances.size(0))
                                 : constants.unsqueeze(-1));
    }
  }
  return r;
}

}  // namespace hopfield::detail
