#include "ops/cpu_call.h"
#include "ops/parallel.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

namespace hopfield::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What forward keeps for backward: states, and two numbers for each association's row.
struct Saved {
  at::Tensor states, sums, output;
};

RetrieveResult run_forward(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved) {
  const CpuCall call(input, settings, seed);
  const auto& p = call.problem();
  const auto options = input.state.options().requires_grad(false);
  const auto floats = options.dtype(at::kFloat);
  const std::vector<int64_t> rows{p.batch, p.heads, p.queries};
  // Heads next to widths: layers merge them without a copy.
  const auto merged = [&](int64_t width) {
    return at::empty({p.batch, p.queries, p.heads, width}, options).transpose(1, 2);
  };
  RetrieveResult r;
  r.output = merged(p.width);
  r.state = merged(p.depth);
  r.logsumexp = at::empty(rows, floats);
  r.residual = at::empty(rows, floats);
  r.steps = at::empty(rows, options.dtype(at::kLong));
  r.converged = at::empty(rows, options.dtype(at::kBool));
  kernels::RetrieveOutputs outputs;
  outputs.output = strides_of(r.output);
  outputs.state = strides_of(r.state);
  outputs.logsumexp = r.logsumexp.data_ptr<float>();
  outputs.residual = r.residual.data_ptr<float>();
  outputs.steps = r.steps.data_ptr<int64_t>();
  outputs.converged = r.converged.data_ptr<bool>();
  if (settings.with_scores) r.scores = make_scores(p, floats, outputs);
  if (saved != nullptr) {
    const auto steps = call.most_steps();
    saved->states = at::empty({steps, p.batch, p.heads, p.queries, p.depth}, floats);
    saved->sums = at::empty({steps + 1, p.batch, p.heads, p.queries, 2}, floats);
    saved->output = at::empty({p.batch, p.heads, p.queries, p.width}, floats);
    outputs.saved_states = saved->states.data_ptr<float>();
    outputs.saved_sums = saved->sums.data_ptr<float>();
    outputs.saved_output = saved->output.data_ptr<float>();
  }
  kernels::retrieve_forward(p, outputs, on_threads());
  return r;
}

struct Gradients {
  at::Tensor state, stored, projection, beta;
};

Gradients run_backward(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed, const Saved& saved,
                       const at::Tensor& steps, const RetrieveResult& incoming, bool wants_patterns) {
  const CpuCall call(input, settings, seed);
  const auto& p = call.problem();
  const auto plain = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.detach().to(at::kFloat).contiguous() : at::Tensor();
  };
  const auto pointer = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.data_ptr<float>() : nullptr; };
  const auto output = incoming.output.defined() ? plain(incoming.output) : at::zeros_like(saved.output);
  const auto state = plain(incoming.state), logsumexp = plain(incoming.logsumexp);
  kernels::RetrieveGradients g;
  g.output = pointer(output);
  g.state = pointer(state);
  g.logsumexp = pointer(logsumexp);
  g.saved_states = pointer(saved.states);
  g.saved_sums = pointer(saved.sums);
  g.saved_output = pointer(saved.output);
  g.steps = steps.data_ptr<int64_t>();
  g.most_steps = call.most_steps();

  Gradients result;
  result.state = gradient_like(input.state);
  const auto beta = at::empty({p.batch, p.heads, p.queries}, saved.output.options());
  g.query = strides_of(result.state);
  if (wants_patterns) {
    result.stored = gradient_like(input.stored);
    g.stored = strides_of(result.stored);
  }
  if (wants_patterns && input.projection.defined()) {
    result.projection = gradient_like(input.projection);
    g.values = strides_of(result.projection);
  }
  g.beta = beta.data_ptr<float>();
  kernels::retrieve_backward(p, g, on_threads());
  if (settings.beta.defined()) result.beta = beta_gradient(beta, settings.beta);
  return result;
}

/// Gradients that can be differentiated again.
Gradients differentiable_backward(const RetrieveInput& input, RetrieveSettings settings, uint64_t seed,
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
    const auto r = run_forward(input, settings, rest->seed, &saved);
    ctx->save_for_backward({state, stored, projection, beta, saved.states, saved.sums, saved.output, r.steps});
    ctx->saved_data["rest"] = c10::IValue::make_capsule(rest);
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable({r.residual, r.steps, r.converged});
    return {r.output, r.state, r.logsumexp, r.residual, r.steps, r.converged};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved_tensors = ctx->get_saved_variables();
    const auto rest = c10::static_intrusive_pointer_cast<Rest>(ctx->saved_data["rest"].toCapsule());
    auto input = rest->input;
    auto settings = rest->settings;
    with_followed(*rest, input, settings, saved_tensors[0], saved_tensors[1], saved_tensors[2], saved_tensors[3]);
    RetrieveResult incoming;
    incoming.output = gradients[0];
    incoming.state = gradients[1];
    incoming.logsumexp = gradients[2];
    const Saved saved{saved_tensors[4], saved_tensors[5], saved_tensors[6]};
    const auto result = at::GradMode::is_enabled()
                            ? differentiable_backward(input, settings, rest->seed, incoming)
                            : run_backward(input, settings, rest->seed, saved, saved_tensors[7], incoming,
                                           ctx->needs_input_grad(1) || ctx->needs_input_grad(2));
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

RetrieveResult retrieve_cpu(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed) {
  auto call = input;
  if (call.projection.defined() && call.projection.is_same(call.stored)) call.projection = at::Tensor();
  if (call.association_mask.defined() || call.padding_mask.defined() || call.key_bias.defined()) {
    call = *without_hidden_nonfinite(call);
  }
  const auto& s = settings;
  bool needs_gradient = false;
  for (const auto* tensor :
       std::initializer_list<const at::Tensor*>{&call.state, &call.stored, &call.projection, &s.beta}) {
    needs_gradient |= at::GradMode::is_enabled() && tensor->defined() && tensor->requires_grad();
  }
  RetrieveResult r;
  if (!needs_gradient) {
    r = run_forward(call, settings, seed, nullptr);
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
