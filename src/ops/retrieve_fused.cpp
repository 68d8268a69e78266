#include "ops/capture.h"
#include "ops/cpu_passes.h"
#include "ops/retrieve_passes.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>
#include <vector>

namespace hopfield::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const RetrievePasses& passes_for(const RetrieveInput& input) { return *retrieve_passes(input.state.device().type()); }

RetrieveGradients run_backward(const RetrieveInput& input, RetrieveSettings settings, uint64_t seed, Saved saved,
                               const at::Tensor& steps, const RetrieveResult& incoming, std::array<bool, 2> wants) {
  const auto& passes = passes_for(input);
  if (!keeps_states(settings)) {
    settings = replay_settings(std::move(settings), steps);
    passes.forward(input, settings, seed, &saved);
  }
  auto result = passes.backward(input, settings, seed, saved, steps, incoming, wants);
  result.beta = settings.beta.defined() ? beta_gradient(result.beta, settings.beta) : at::Tensor();
  return result;
}

/// Gradients that can be differentiated again.
RetrieveGradients differentiable_backward(const RetrieveInput& input, RetrieveSettings settings, uint64_t seed,
                                          const RetrieveResult& incoming) {
  settings.with_energy = false;
  const auto r = retrieve_composite(input, settings, seed);
  const auto g =
      differentiable_gradients({r.output, r.state, r.logsumexp}, {incoming.output, incoming.state, incoming.logsumexp},
                               {input.state, input.stored, input.projection, settings.beta});
  return {g[0], g[1], g[2], g[3]};
}

/// Everything of a call but the tensors that autograd follows.
struct Rest : torch::CustomClassHolder {
  RetrieveInput input;
  RetrieveSettings settings;
  uint64_t seed = 0;
  bool own_projection = false, own_beta = false;  // otherwise their places hold something that is not looked at
};

class FusedRetrieve : public torch::autograd::Function<FusedRetrieve> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& state, const at::Tensor& stored,
                               const at::Tensor& projection, const at::Tensor& beta,
                               const c10::intrusive_ptr<Rest>& rest) {
    const auto [input, settings] = with_followed(*rest, {state, stored, projection, beta});
    Saved saved;
    const auto r = passes_for(input).forward(input, settings, rest->seed, keeps_states(settings) ? &saved : nullptr);
    ctx->save_for_backward(
        {state, stored, projection, beta, saved.states, saved.sums, saved.output, saved.rest, r.steps});
    ctx->saved_data["rest"] = c10::IValue::make_capsule(rest);
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable({r.residual, r.steps, r.converged});
    return {r.output, r.state, r.logsumexp, r.residual, r.steps, r.converged};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    // A backward pass that is called under autocast would lower its products.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto tensors = ctx->get_saved_variables();
    const auto rest = c10::static_intrusive_pointer_cast<Rest>(ctx->saved_data["rest"].toCapsule());
    const auto [input, settings] = with_followed(*rest, tensors);
    check_replay("hopfield::retrieve", settings, input.state);
    RetrieveResult incoming;
    incoming.output = gradients[0];
    incoming.state = gradients[1];
    incoming.logsumexp = gradients[2];
    const Saved saved{tensors[4], tensors[5], tensors[6], {}, {}, tensors[7]};
    const auto result =
        at::GradMode::is_enabled()
            ? differentiable_backward(input, settings, rest->seed, incoming)
            : run_backward(input, settings, rest->seed, saved, tensors[8], incoming,
                           {ctx->needs_input_grad(1), rest->own_projection && ctx->needs_input_grad(2)});
    return {result.state, result.stored, result.projection, result.beta, at::Tensor()};
  }

 private:
  static std::pair<RetrieveInput, RetrieveSettings> with_followed(const Rest& rest, const variable_list& tensors) {
    auto input = rest.input;
    auto settings = rest.settings;
    input.state = tensors[0];
    input.stored = tensors[1];
    if (rest.own_projection) input.projection = tensors[2];
    if (rest.own_beta) settings.beta = tensors[3];
    return {input, settings};
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
    if (settings.beta.defined()) settings.beta = settings.beta.detach();
    tensors = {input.state, input.stored, settings.beta.defined() ? settings.beta : input.state};
    input.state = input.stored = at::Tensor();  // autograd keeps them
  }

  at::Tensor times(const at::Tensor& v, const std::vector<at::Tensor>& given) const override {
    auto call = input;
    auto options = settings;
    call.state = given[0];
    call.stored = given[1];
    if (settings.beta.defined()) options.beta = given[2];
    const auto& passes = passes_for(call);
    if (!steps.defined()) steps = passes.forward(call, options, 0, &saved).steps;
    RetrieveResult incoming;
    incoming.output = v;
    return passes.backward(call, options, 0, saved, steps, incoming, {false, false}).state;
  }

  RetrieveInput input;
  RetrieveSettings settings;
  // Of the association at xi, made when the first product wants it.
  mutable Saved saved;
  mutable at::Tensor steps;
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
  const auto& s = settings;
  RetrieveResult r;
  if (!any_needs_gradient({call.state, call.stored, call.projection, s.beta})) {
    r = passes_for(call).forward(call, settings, seed, nullptr);
  } else if (s.gradient.kind() == Gradient::Kind::implicit && makes_updates(s)) {
    return retrieve_with_implicit_gradient(call, s, seed);
  } else {
    auto rest = c10::make_intrusive<Rest>();
    rest->input = call;
    rest->settings = settings;
    rest->seed = seed;
    // The node keeps these four as saved variables, which notice changes in place and do not hold the graph in a
    // circle.
    rest->input.state = rest->input.stored = rest->input.projection = rest->settings.beta = at::Tensor();
    rest->own_projection = call.projection.defined();
    rest->own_beta = s.beta.defined();
    const auto nothing = at::empty({0});
    const auto outputs = FusedRetrieve::apply(call.state, call.stored, rest->own_projection ? call.projection : nothing,
                                              rest->own_beta ? s.beta : nothing, rest);
    r.output = outputs[0];
    r.state = outputs[1];
    r.logsumexp = outputs[2];
    r.residual = outputs[3];
    r.steps = outputs[4];
    r.converged = outputs[5];
  }
  if (settings.with_energy) r.energy = retrieve_energy(call, settings, r.state, r.logsumexp);
  return r;
}

}  // namespace hopfield::detail
