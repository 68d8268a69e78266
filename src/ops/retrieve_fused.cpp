#include "ops/capture.h"
#include "ops/fused_node.h"
#include "ops/retrieve_passes.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

namespace hopfield::detail {
namespace {

const RetrievePasses& passes_for(const RetrieveInput& input) { return *retrieve_passes(input.state.device().type()); }

struct RetrieveOp {
  using Input = RetrieveInput;
  using Result = RetrieveResult;
  static constexpr auto name = "hopfield::retrieve";
  static constexpr at::Tensor RetrieveResult::*differentiable[] = {&RetrieveResult::output, &RetrieveResult::state,
                                                                   &RetrieveResult::logsumexp};

  static RetrieveResult forward(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed,
                                Saved* saved) {
    return passes_for(input).forward(input, settings, seed, saved);
  }

  static std::vector<at::Tensor> backward(KeptCall<RetrieveInput> call, const RetrieveResult& incoming,
                                          const std::vector<bool>& wants) {
    const auto& passes = passes_for(call.input);
    if (!call.saved.states.defined()) {
      call.settings = replay_settings(std::move(call.settings), call.saved.steps);
      passes.forward(call.input, call.settings, call.seed, &call.saved);
    }
    const auto g =
        passes.backward(call.input, call.settings, call.seed, call.saved, incoming, {wants.at(1), wants.at(2)});
    const auto& beta = call.settings.beta;
    return {g.state, g.stored, g.projection, beta.defined() ? beta_gradient(g.beta, beta) : at::Tensor()};
  }

  static std::vector<at::Tensor> differentiable_backward(const KeptCall<RetrieveInput>& call,
                                                         const RetrieveResult& incoming) {
    auto settings = call.settings;
    settings.with_energy = false;
    const auto r = retrieve_composite(call.input, settings, call.seed);
    return differentiable_gradients({r.output, r.state, r.logsumexp},
                                    {incoming.output, incoming.state, incoming.logsumexp},
                                    {call.input.state, call.input.stored, call.input.projection, settings.beta});
  }
};

/// Of one association without dropout, that reads out what it is asked.
RetrieveSettings association_alone(RetrieveSettings settings) {
  settings.update_steps_max = int64_t{0};
  settings.update_steps_eps = 0.0;
  settings.stop_rule = StopRule::per_query;
  settings.gradient = Gradient::unrolled();
  return settings;
}

/// J v is what the gradient v of softmax(beta xi K^T) K becomes at xi.
struct FusedJacobian : UpdateJacobian {
  FusedJacobian(RetrieveInput update_input, RetrieveSettings association_settings)
      : input(std::move(update_input)), settings(std::move(association_settings)) {
    settings.beta = settings.beta.defined() ? settings.beta.detach() : at::Tensor();
    for (auto* tensor : tensors_of(input, settings)) tensors.push_back(std::exchange(*tensor, at::Tensor()));
  }

  Product product(const std::vector<at::Tensor>& given) const override {
    auto call = input;
    auto options = settings;
    size_t i = 0;
    for (auto* tensor : tensors_of(call, options)) *tensor = given[i++];
    Saved saved;  // of the association at xi
    saved.steps = passes_for(call).forward(call, options, 0, &saved).steps;
    return [call, options, saved](const at::Tensor& v) {
      RetrieveResult incoming;
      incoming.output = v;
      return passes_for(call).backward(call, options, 0, saved, incoming, {false, false}).state;
    };
  }

  RetrieveInput input;
  RetrieveSettings settings;
};

/// The states without a gradient, then one update that has one: the solver passes it on. In float32, since conjugate
/// gradients would not get far with less.
RetrieveResult retrieve_with_implicit_gradient(const RetrieveInput& input, const RetrieveSettings& settings,
                                               uint64_t seed) {
  TORCH_CHECK(
      !is_capturing(input.state),
      "hopfield::retrieve: expected no implicit gradient while a CUDA graph is being captured, since its solver "
      "looks at residuals; use the unrolled gradient");
  RetrieveResult solution;
  at::Tensor start;
  auto iteration = settings;
  iteration.dropout = 0.0;
  iteration.with_scores = iteration.with_energy = false;
  {
    const at::NoGradGuard no_grad;
    solution = passes_for(input).forward(input, iteration, 0, nullptr);
    start = solution.state;
    // What did not converge made all updates: its gradient is that of the last one.
    if (settings.update_steps_cap > 0 && !solution.converged.all().item<bool>()) {
      iteration.update_steps_cap -= 1;
      const auto before = passes_for(input).forward(input, iteration, 0, nullptr).state;
      start = at::where(solution.converged.unsqueeze(-1), solution.state, before);
    }
  }
  auto update = input;
  update.projection = at::Tensor();
  update.state = start.to(at::kFloat);
  update.stored = input.stored.to(at::kFloat);
  auto association = association_alone(iteration);
  const auto refined = retrieve_fused(update, association, 0);
  const auto nothing = at::isneginf(refined.logsumexp.detach()).unsqueeze(-1);
  update.state = solution.state.to(at::kFloat);
  update.stored = update.stored.detach();
  const auto state =
      implicit_state(update.state, at::where(nothing, update.state, refined.output), input.state,
                     solution.converged.unsqueeze(-1), c10::make_intrusive<FusedJacobian>(update, association));
  auto read_out = input;
  read_out.state = state.to(input.state.scalar_type());
  association = association_alone(settings);
  auto result = retrieve_fused(read_out, association, seed);
  result.steps = solution.steps;
  result.residual = solution.residual;
  result.converged = solution.converged;
  return result;
}

}  // namespace

RetrieveResult retrieve_fused(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed) {
  auto call = input;
  if (call.projection.defined() && call.projection.is_same(call.stored)) call.projection = at::Tensor();
  RetrieveResult r;
  if (!any_needs_gradient({call.state, call.stored, call.projection, settings.beta})) {
    r = passes_for(call).forward(call, settings, seed, nullptr);
  } else if (settings.gradient.kind() == Gradient::Kind::implicit && makes_updates(settings)) {
    return retrieve_with_implicit_gradient(call, settings, seed);
  } else {
    r = FusedNode<RetrieveOp>::call(call, settings, seed);
  }
  if (settings.with_energy) r.energy = retrieve_energy(call, settings, r.state, r.logsumexp);
  return r;
}

}  // namespace hopfield::detail
