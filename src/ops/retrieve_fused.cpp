#include "ops/capture.h"
#include "ops/cpu_passes.h"
#include "ops/retrieve_passes.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

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
    Saved saved;
    auto input = rest->input;
    auto settings = rest->settings;
    with_followed(*rest, input, settings, state, stored, projection, beta);
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
    const auto saved_tensors = ctx->get_saved_variables();
    const auto rest = c10::static_intrusive_pointer_cast<Rest>(ctx->saved_data["rest"].toCapsule());
    auto input = rest->input;
    auto settings = rest->settings;
    with_followed(*rest, input, settings, saved_tensors[0], saved_tensors[1], saved_tensors[2], saved_tensors[3]);
    TORCH_CHECK(
        keeps_states(settings) || !is_capturing(input.state),
        "hopfield::retrieve: expected no backward pass of until_converged while a CUDA graph is being captured, "
        "since it reads how many updates were made; set update_steps_max");
    RetrieveResult incoming;
    incoming.output = gradients[0];
    incoming.state = gradients[1];
    incoming.logsumexp = gradients[2];
    const Saved saved{saved_tensors[4], saved_tensors[5], saved_tensors[6], {}, {}, saved_tensors[7]};
    const auto result =
        at::GradMode::is_enabled()
            ? differentiable_backward(input, settings, rest->seed, incoming)
            : run_backward(input, settings, rest->seed, saved, saved_tensors[8], incoming,
                           {ctx->needs_input_grad(1), rest->own_projection && ctx->needs_input_grad(2)});
    return {result.state, result.stored, result.projection, result.beta, at::Tensor()};
  }

 private:
  static void with_followed(const Rest& rest, RetrieveInput& input, RetrieveSettings& settings, const at::Tensor& state,
                            const at::Tensor& stored, const at::Tensor& projection, const at::Tensor& beta) {
    input.state = state;
    input.stored = stored;
    if (rest.own_projection) input.projection = projection;
    if (rest.own_beta) settings.beta = beta;
  }
};

}  // namespace

RetrieveResult retrieve_fused(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed) {
  auto call = input;
  if (call.projection.defined() && call.projection.is_same(call.stored)) call.projection = at::Tensor();
  const auto& s = settings;
  RetrieveResult r;
  if (!any_needs_gradient({call.state, call.stored, call.projection, s.beta})) {
    r = passes_for(call).forward(call, settings, seed, nullptr);
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
