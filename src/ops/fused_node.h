#pragma once

#include "ops/call_tensors.h"
#include "ops/cpu_passes.h"
#include "ops/passes.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

namespace hopfield::detail {

/// A call, and what its forward pass leaves to its backward pass.
template <typename Input>
struct KeptCall : torch::CustomClassHolder {
  Input input;
  RetrieveSettings settings;
  uint64_t seed = 0;
  Saved saved;
  std::vector<size_t> followed;  ///< places in tensors_of() of those that ask for a gradient

  std::vector<at::Tensor*> tensors() {
    const auto of_call = tensors_of(input, settings), of_saved = tensors_of(saved);
    std::vector<at::Tensor*> all(of_call.begin(), of_call.end());
    all.insert(all.end(), of_saved.begin(), of_saved.end());
    return all;
  }
};

/// The fused kernels of an op, forward and backward as one node of the graph. Every tensor that backward reads is a
/// saved variable: autograd then notices what is changed in place before backward, and lets go of the tensors after it.
///
/// Op has Input, Result, name, the members of the result that have a gradient, and
///   Result forward(const Input&, const RetrieveSettings&, uint64_t seed, Saved* saved);
///   std::vector<at::Tensor> backward(KeptCall<Input> call, const Result& incoming, const std::vector<bool>& wants);
///   std::vector<at::Tensor> differentiable_backward(const KeptCall<Input>& call, const Result& incoming);
/// whose gradients are in the order of tensors_of().
template <typename Op>
class FusedNode : public torch::autograd::Function<FusedNode<Op>> {
  using Input = typename Op::Input;
  using Result = typename Op::Result;
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;

 public:
  static Result call(const Input& input, const RetrieveSettings& settings, uint64_t seed) {
    auto kept = c10::make_intrusive<KeptCall<Input>>();
    kept->input = input;
    kept->settings = settings;
    kept->seed = seed;
    const auto tensors = tensors_of(kept->input, kept->settings);
    Tensors followed;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (!wants_gradient(*tensors[i])) continue;
      kept->followed.push_back(i);
      followed.push_back(*tensors[i]);
    }
    const auto outputs = FusedNode::apply(at::TensorList(followed), kept);
    Result r;
    size_t next = 0;
    for (const auto member : Op::differentiable) r.*member = outputs[next++];
    for (const auto member : kConstants) r.*member = outputs[next++];
    return r;
  }

  static Tensors forward(Context* ctx, at::TensorList, const c10::intrusive_ptr<KeptCall<Input>>& kept) {
    const auto& settings = kept->settings;
    const bool keeps = keeps_states(settings, kept->input.state);
    auto r = Op::forward(kept->input, settings, kept->seed, keeps ? &kept->saved : nullptr);
    kept->saved.steps = r.steps.clone();  // the result is the caller's to change
    Tensors saved;
    for (auto* tensor : kept->tensors()) saved.push_back(std::exchange(*tensor, at::Tensor()));
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["call"] = c10::IValue::make_capsule(kept);
    ctx->set_materialize_grads(false);
    Tensors outputs, constants;
    for (const auto member : Op::differentiable) outputs.push_back(r.*member);
    for (const auto member : kConstants) constants.push_back(r.*member);
    outputs.insert(outputs.end(), constants.begin(), constants.end());
    ctx->mark_non_differentiable(constants);
    return outputs;
  }

  static Tensors backward(Context* ctx, const Tensors& gradients) {
    // A backward pass that is called under autocast would lower its products.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    auto kept = *c10::static_intrusive_pointer_cast<KeptCall<Input>>(ctx->saved_data["call"].toCapsule());
    const auto saved = ctx->get_saved_variables();
    const auto tensors = kept.tensors();
    for (size_t i = 0; i < saved.size(); ++i) *tensors[i] = saved[i];
    const auto followed = kept.followed;
    check_replay(Op::name, kept.saved, kept.input.state);
    std::vector<bool> wants(tensors.size(), false);
    for (size_t i = 0; i < followed.size(); ++i) wants[followed[i]] = ctx->needs_input_grad(i);
    Result incoming;
    size_t next = 0;
    for (const auto member : Op::differentiable) incoming.*member = gradients[next++];
    // Kernels would lose the tangents of gradients that come in, and cannot read what vmap has batched.
    const bool transformed = std::any_of(gradients.begin(), gradients.end(), is_transformed);
    const at::AutoGradMode grad_mode(at::GradMode::is_enabled() || transformed);
    const auto found = at::GradMode::is_enabled() ? Op::differentiable_backward(kept, incoming)
                                                  : Op::backward(std::move(kept), incoming, wants);
    Tensors result;
    for (const auto place : followed) result.push_back(found[place]);
    result.emplace_back();  // of the call itself
    return result;
  }

 private:
  static constexpr at::Tensor RetrieveResult::*kConstants[] = {&RetrieveResult::residual, &RetrieveResult::steps,
                                                               &RetrieveResult::converged};
};

}  // namespace hopfield::detail
