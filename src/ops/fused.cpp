// The fused kernels as one node of autograd's graph, for both ops and all devices.

#include "ops/autograd_helpers.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace hopfield::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// beta of each head [H, 1, 1] or [1, 1, 1], in float32.
at::Tensor head_beta(const OpCall& call) {
  const auto floats = call.input.state.options().dtype(at::kFloat).requires_grad(false);
  if (call.settings.beta.defined()) return call.settings.beta.detach().to(floats).view({-1, 1, 1});
  return at::full({1, 1, 1}, default_beta(call.weight.size(1)), floats);
}

/// [steps, N, H, L, width] as [H, steps * N * L, width].
at::Tensor by_head(const at::Tensor& rows) { return rows.permute({2, 0, 1, 3, 4}).flatten(1, 3); }

/// The gradients by the kernels, in the order of tensors_of().
variable_list kernel_gradients(OpCall call, Saved saved, const PoolResult& incoming, const std::vector<bool>& wants) {
  const auto& kernels = kernels_for(call);
  if (!saved.states.defined()) {
    call.settings = replay_settings(std::move(call.settings), saved.steps);
    kernels.forward(call, &saved);
  }
  const auto g = kernels.backward(call, saved, incoming, wants[1] || wants[2]);
  at::Tensor weight, bias, beta;
  if (call.is_pool()) {
    // Scores are beta xi W y and updates W w + b: each association's state goes with its dS Y, and the gradient of each
    // update's result with the mean instance w that the update found.
    const auto all_states = at::cat({call.input.state.detach().to(at::kFloat).unsqueeze(0), saved.states});
    const auto from_scores = (by_head(all_states) * head_beta(call)).transpose(1, 2).bmm(by_head(g.products));
    const auto updates = by_head(g.states);
    const auto from_updates = updates.transpose(1, 2).bmm(by_head(saved.means));
    weight = (from_scores + from_updates).to(call.weight.scalar_type());
    if (call.bias.defined()) bias = updates.sum(1).to(call.bias.scalar_type());
  }
  if (call.settings.beta.defined()) beta = beta_gradient(g.beta, call.settings.beta);
  return {g.state.to(call.input.state.scalar_type()), g.stored, g.projection, weight, bias, beta};
}

/// beta xi . b of each query [N, H, L], in float32: the kernels leave it out of all scores of a pool. It is 0 where
/// there is nothing to attend to, so that a logsumexp of -inf passes no gradient on.
at::Tensor constant_scores(const PoolResult& result, const OpCall& call) {
  // Autograd keeps a copy of the state: the result itself is the caller's to change.
  const auto state = result.state.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  const auto products = (state * call.bias.to(at::kFloat).unsqueeze(1)).sum(-1);
  const auto constants = products.masked_fill(at::isneginf(result.logsumexp.detach()), 0.0);
  const auto& beta = call.settings.beta;
  const auto depth = std::max<int64_t>(result.state.size(-1), 1);
  if (!beta.defined()) return constants / std::sqrt(static_cast<double>(depth));
  return constants * (beta.dim() == 1 ? beta.to(at::kFloat).unsqueeze(1) : beta.to(at::kFloat));
}

/// The same gradients in LibTorch operations, so that they can be differentiated again.
variable_list composite_gradients(OpCall call, const PoolResult& incoming) {
  call.settings.with_energy = false;
  PoolResult r;
  if (call.is_pool()) {
    r = pool_composite(call);
    if (call.bias.defined()) r.logsumexp = r.logsumexp - constant_scores(r, call);
  } else {
    static_cast<RetrieveResult&>(r) = retrieve_composite(call.input, call.settings, call.seed);
  }
  variable_list inputs;
  for (const auto* tensor : tensors_of(call)) inputs.push_back(*tensor);
  inputs.resize(kDifferentiable);
  return differentiable_gradients({r.output, r.state, r.logsumexp, r.mass},
                                  {incoming.output, incoming.state, incoming.logsumexp, incoming.mass}, inputs);
}

/// A call, and what its forward pass leaves to its backward pass.
struct SavedCall : torch::CustomClassHolder {
  OpCall call;
  Saved saved;
  std::vector<size_t> followed;  ///< places in tensors_of(call) of those that ask for a gradient

  std::vector<at::Tensor*> tensors() {
    const auto of_call = tensors_of(call);
    const auto of_saved = tensors_of(saved);
    std::vector<at::Tensor*> all(of_call.begin(), of_call.end());
    all.insert(all.end(), of_saved.begin(), of_saved.end());
    return all;
  }
};

/// Every tensor that the backward pass reads is a saved variable: autograd then notices what is changed in place before
/// the backward pass, and lets go of the tensors after it.
class FusedNode : public torch::autograd::Function<FusedNode> {
 public:
  static PoolResult call(const OpCall& call) {
    auto kept = c10::make_intrusive<SavedCall>();
    kept->call = call;
    const auto tensors = tensors_of(kept->call);
    variable_list followed;
    for (size_t i = 0; i < kDifferentiable; ++i) {
      if (!wants_gradient(*tensors[i])) continue;
      kept->followed.push_back(i);
      followed.push_back(*tensors[i]);
    }
    const auto outputs = FusedNode::apply(at::TensorList(followed), kept);
    PoolResult r;
    size_t next = 0;
    for (const auto member : members(call)) r.*member = outputs[next++];
    return r;
  }

  static variable_list forward(AutogradContext* ctx, at::TensorList, const c10::intrusive_ptr<SavedCall>& kept) {
    const auto all_members = members(kept->call);
    auto r = kernels_for(kept->call).forward(kept->call, keeps_states(kept->call) ? &kept->saved : nullptr);
    kept->saved.steps = r.steps.clone();  // the result itself is the caller's to change
    variable_list saved, outputs;
    for (auto* tensor : kept->tensors()) saved.push_back(std::exchange(*tensor, at::Tensor()));
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["call"] = c10::IValue::make_capsule(kept);
    ctx->set_materialize_grads(false);
    for (const auto member : all_members) outputs.push_back(r.*member);
    ctx->mark_non_differentiable({r.residual, r.steps, r.converged});
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    // A backward pass that is called under autocast would lower its products.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    auto kept = *c10::static_intrusive_pointer_cast<SavedCall>(ctx->saved_data["call"].toCapsule());
    const auto saved = ctx->get_saved_variables();
    const auto tensors = kept.tensors();
    for (size_t i = 0; i < saved.size(); ++i) *tensors[i] = saved[i];
    check_replay(kept.call, kept.saved);
    std::vector<bool> wants(kDifferentiable, false);
    for (size_t i = 0; i < kept.followed.size(); ++i) wants[kept.followed[i]] = ctx->needs_input_grad(i);
    PoolResult incoming;
    size_t next = 0;
    for (const auto member : members(kept.call)) incoming.*member = gradients[next++];
    // Kernels would lose the tangents of gradients that come in, and cannot read what vmap has batched.
    const bool transformed = std::any_of(gradients.begin(), gradients.end(), is_transformed);
    const at::AutoGradMode grad_mode(at::GradMode::is_enabled() || transformed);
    const auto followed = kept.followed;
    const auto found = at::GradMode::is_enabled()
                           ? composite_gradients(kept.call, incoming)
                           : kernel_gradients(std::move(kept.call), std::move(kept.saved), incoming, wants);
    variable_list result;
    for (const auto place : followed) result.push_back(found[place]);
    result.emplace_back();  // of the call itself
    return result;
  }

 private:
  using Member = at::Tensor PoolResult::*;

  static std::vector<Member> members(const OpCall& call) {
    std::vector<Member> all{&PoolResult::output,   &PoolResult::state, &PoolResult::logsumexp,
                            &PoolResult::residual, &PoolResult::steps, &PoolResult::converged};
    if (call.is_pool()) all.push_back(&PoolResult::mass);
    return all;
  }
};

}  // namespace

PoolResult run_fused(const OpCall& call) {
  const bool differentiated = needs_gradient(call);
  if (differentiated && has_implicit_gradient(call.settings)) return run_fused_with_implicit_gradient(call);
  auto r = differentiated ? FusedNode::call(call) : kernels_for(call).forward(call, nullptr);
  if (call.settings.with_energy) r.energy = retrieve_energy(call.input, call.settings, r.state, r.logsumexp);
  if (call.bias.defined()) {
    const auto constants = constant_scores(r, call);
    r.logsumexp = r.logsumexp + constants;
    if (r.scores.defined()) {
      const auto& offsets = call.input.offsets;
      // With its size known, repeat_interleave() need not wait for the lengths of the bags.
      r.scores = r.scores + (offsets.defined() ? at::repeat_interleave(constants, at::diff(offsets.to(at::kLong)), 0,
                                                                       call.input.stored.size(0))
                                               : constants.unsqueeze(-1));
    }
  }
  return r;
}

}  // namespace hopfield::detail
