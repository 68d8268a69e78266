#include "ops/fused_node.h"
#include "ops/pool_internal.h"
#include "ops/pool_passes.h"

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield::detail {
namespace {

/// beta xi . b of each query [N, H, L], in float32: what the kernels leave out of all its scores. Nothing where there
/// is nothing to attend to, so that a logsumexp of -inf passes no gradient on.
at::Tensor constant_scores(const PoolResult& result, const PoolInput& input, const RetrieveSettings& settings) {
  // Of a copy: autograd keeps it, and the result is the caller's to change.
  const auto state = result.state.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  const auto products = (state * input.bias.to(at::kFloat).unsqueeze(1)).sum(-1);
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

/// [steps, N, H, L, width] as [H, steps * N * L, width].
at::Tensor by_head(const at::Tensor& rows) { return rows.permute({2, 0, 1, 3, 4}).flatten(1, 3); }

struct PoolOp {
  using Input = PoolInput;
  using Result = PoolResult;
  static constexpr auto name = "hopfield::pool";
  static constexpr at::Tensor PoolResult::*differentiable[] = {&PoolResult::output, &PoolResult::state,
                                                               &PoolResult::logsumexp, &PoolResult::mass};

  static PoolResult forward(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved) {
    return passes_for(input).forward(input, settings, seed, saved);
  }

  static std::vector<at::Tensor> backward(KeptCall<PoolInput> call, const PoolResult& incoming,
                                          const std::vector<bool>& wants) {
    const auto& input = call.input;
    auto& settings = call.settings;
    auto& saved = call.saved;
    const auto& passes = passes_for(input);
    if (!saved.states.defined()) {
      settings = replay_settings(std::move(settings), saved.steps);
      passes.forward(input, settings, call.seed, &saved);
    }
    const auto instances = wants.at(0) ? gradient_like(input.instances) : at::Tensor();
    const auto passed = passes.backward(input, settings, call.seed, saved, incoming, instances);
    const bool is_shared = input.state.size(0) != saved.steps.size(0);
    const auto state = is_shared ? passed.state.sum(0, /*keepdim=*/true) : passed.state;
    // Scores are beta xi W y and updates W w + b: each association's state goes with its dS Y, each update's gradient
    // with its mean.
    const auto all_states =
        at::cat({as_retrieve_input(input).state.detach().to(at::kFloat).unsqueeze(0), saved.states});
    const auto beta = head_beta(passed.beta, input, settings);
    const auto from_scores = (by_head(all_states) * beta).transpose(1, 2).bmm(by_head(passed.products));
    const auto from_updates = by_head(passed.states).transpose(1, 2).bmm(by_head(saved.means));
    return {instances, state.to(input.state.scalar_type()), (from_scores + from_updates).to(input.weight.scalar_type()),
            input.bias.defined() ? by_head(passed.states).sum(1).to(input.bias.scalar_type()) : at::Tensor(),
            settings.beta.defined() ? beta_gradient(passed.beta, settings.beta) : at::Tensor()};
  }

  static std::vector<at::Tensor> differentiable_backward(const KeptCall<PoolInput>& call, const PoolResult& incoming) {
    const auto& input = call.input;
    const auto& settings = call.settings;
    const auto r = pool_composite(input, settings, call.seed);
    const auto raw = input.bias.defined() ? r.logsumexp - constant_scores(r, input, settings) : r.logsumexp;
    return differentiable_gradients({r.output, r.state, r.mass, raw},
                                    {incoming.output, incoming.state, incoming.mass, incoming.logsumexp},
                                    {input.instances, input.state, input.weight, input.bias, settings.beta});
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
  const bool differentiated =
      any_needs_gradient({input.instances, input.state, input.weight, input.bias, settings.beta});
  auto r = differentiated ? FusedNode<PoolOp>::call(input, settings, seed)
                          : passes_for(input).forward(input, settings, seed, nullptr);
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
