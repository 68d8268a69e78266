#include "ops/parallel.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <kernels/cpu/retrieve.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace hopfield::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Strides of patterns [N or 1, H or 1, rows, width], or ragged [total, H or 1, width].
kernels::Tensor4 strides_of(const at::Tensor& tensor) {
  kernels::Tensor4 result;
  result.data = tensor.data_ptr();
  const bool ragged = tensor.dim() == 3;
  result.batch = ragged || tensor.size(0) == 1 ? 0 : tensor.stride(0);
  result.head = tensor.size(1) == 1 ? 0 : tensor.stride(1);
  result.row = tensor.stride(ragged ? 0 : 2);
  return result;
}

at::Tensor with_contiguous_rows(const at::Tensor& tensor) {
  return !tensor.defined() || tensor.stride(-1) == 1 || tensor.size(-1) <= 1 ? tensor : tensor.contiguous();
}

/// A call in the kernels' terms. Owns the tensors that the problem points into.
class Call {
 public:
  Call(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed)
      : state_(with_contiguous_rows(input.state)),
        stored_(with_contiguous_rows(input.stored)),
        projection_(with_contiguous_rows(input.projection)) {
    const bool ragged = input.offsets.defined();
    p_.batch = state_.size(0);
    p_.heads = state_.size(1);
    p_.queries = state_.size(2);
    p_.depth = state_.size(3);
    p_.keys = stored_.size(ragged ? 0 : 2);
    p_.width = (projection_.defined() ? projection_ : stored_).size(-1);
    p_.type = state_.scalar_type() == at::kFloat ? kernels::Type::float32 : kernels::Type::bfloat16;
    p_.batch_shared = !ragged && stored_.size(0) == 1;
    p_.heads_shared = stored_.size(1) == 1;
    if (ragged) {
      offsets_ = input.offsets.to(at::kCPU, at::kLong).contiguous();
      p_.offsets = offsets_.data_ptr<int64_t>();
    }
    p_.state = strides_of(state_);
    p_.stored = strides_of(stored_);
    p_.own_values = projection_.defined();
    if (p_.own_values) p_.values = strides_of(projection_);
    set_iteration(settings);
    set_masks(input);
    p_.dropout = settings.dropout;
    p_.seed = seed;
  }

  const kernels::RetrieveProblem& problem() const { return p_; }
  int64_t most_steps() const { return p_.heads > 0 ? *std::max_element(steps_.begin(), steps_.end()) : 0; }

 private:
  void set_iteration(const RetrieveSettings& settings) {
    const auto per_head = [&](const auto& values, auto& target, auto convert) {
      for (int64_t h = 0; h < p_.heads; ++h) target.push_back(convert(values[values.size() == 1 ? 0 : h]));
    };
    per_head(settings.update_steps_max.values(), steps_,
             [&](int64_t steps) { return steps < 0 ? settings.update_steps_cap : steps; });
    per_head(settings.update_steps_eps.values(), eps_, [](double eps) { return static_cast<float>(eps); });
    std::vector<double> beta{1.0 / std::sqrt(static_cast<double>(std::max<int64_t>(p_.depth, 1)))};
    if (settings.beta.defined()) {
      const auto given = settings.beta.detach().to(at::kCPU, at::kDouble).contiguous();
      beta.assign(given.data_ptr<double>(), given.data_ptr<double>() + given.numel());
    }
    per_head(beta, beta_, [](double value) { return static_cast<float>(value); });
    p_.steps_max = steps_.data();
    p_.eps = eps_.data();
    p_.beta = beta_.data();
  }

  /// Padding and key bias together are one number for each key; where patterns are shared by a batch that masks them
  /// differently, they join the mask of single scores.
  void set_masks(const RetrieveInput& input) {
    at::Tensor pair = input.association_mask;
    if (input.key_bias.defined()) key_bias_ = input.key_bias.detach().to(at::kFloat);
    if (input.padding_mask.defined()) {
      if (!key_bias_.defined()) key_bias_ = at::zeros({1}, at::kFloat);
      key_bias_ = at::where(input.padding_mask, -kInfinity, key_bias_);
    }
    if (key_bias_.defined() && p_.offsets == nullptr && p_.batch_shared && key_bias_.size(0) > 1) {
      if (!pair.defined()) {
        pair = key_bias_;
      } else if (pair.scalar_type() == at::kBool) {
        pair = at::where(pair, -kInfinity, key_bias_);
      } else {
        pair = at::where(at::isneginf(pair).bitwise_or(at::isneginf(key_bias_)), -kInfinity, pair + key_bias_);
      }
      key_bias_ = at::Tensor();
    }
    if (key_bias_.defined()) {
      const bool ragged = p_.offsets != nullptr;
      key_bias_ = (ragged ? key_bias_ : key_bias_.view({-1, p_.keys})).contiguous();
      p_.key_bias = key_bias_.data_ptr<float>();
      p_.key_bias_batch = ragged || key_bias_.size(0) == 1 ? 0 : p_.keys;
    }
    if (pair.defined()) {
      pair_ = pair.scalar_type() == at::kBool ? pair : pair.detach().to(at::kFloat);
      using Kind = kernels::PairMask::Kind;
      p_.pair.kind = pair_.scalar_type() == at::kBool ? Kind::boolean : Kind::float32;
      p_.pair.data = pair_.data_ptr();
      const auto stride = [&](int64_t dimension) { return pair_.size(dimension) == 1 ? 0 : pair_.stride(dimension); };
      p_.pair.batch = stride(0);
      p_.pair.head = stride(1);
      p_.pair.query = stride(2);
      p_.pair.key = stride(3);
    }
  }

  at::Tensor state_, stored_, projection_, offsets_, key_bias_, pair_;
  std::vector<int64_t> steps_;
  std::vector<float> eps_, beta_;
  kernels::RetrieveProblem p_;
};

/// What forward keeps for backward: states, and two numbers for each association's row.
struct Saved {
  at::Tensor states, sums, output;
};

RetrieveResult run_forward(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved) {
  const Call call(input, settings, seed);
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
                       const at::Tensor& steps, const RetrieveResult& incoming) {
  const Call call(input, settings, seed);
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

  const auto like = [](const at::Tensor& tensor) {
    const auto result = at::empty_like(tensor.detach());
    return result.stride(-1) == 1 || result.size(-1) <= 1 ? result : at::empty(tensor.sizes(), tensor.options());
  };
  Gradients result;
  result.state = like(input.state);
  result.stored = like(input.stored);
  const auto beta = at::empty({p.batch, p.heads, p.queries}, saved.output.options());
  g.query = strides_of(result.state);
  g.stored = strides_of(result.stored);
  if (input.projection.defined()) {
    result.projection = like(input.projection);
    g.values = strides_of(result.projection);
  }
  g.beta = beta.data_ptr<float>();
  kernels::retrieve_backward(p, g, on_threads());
  if (settings.beta.defined()) {
    const bool per_head = settings.beta.dim() == 1 && settings.beta.size(0) > 1;
    const auto summed = per_head ? beta.sum(at::IntArrayRef{0, 2}, false, at::kDouble) : beta.sum(at::kDouble);
    result.beta = summed.view(settings.beta.sizes()).to(settings.beta.options().requires_grad(false));
  }
  return result;
}

/// Gradients that can be differentiated again.
Gradients differentiable_backward(const RetrieveInput& input, RetrieveSettings settings, uint64_t seed,
                                  const RetrieveResult& incoming) {
  settings.with_energy = false;
  const auto r = retrieve_composite(input, settings, seed);
  variable_list outputs, gradients, inputs;
  for (auto member : {&RetrieveResult::output, &RetrieveResult::state, &RetrieveResult::logsumexp}) {
    if (!(incoming.*member).defined() || !(r.*member).requires_grad()) continue;
    outputs.push_back(r.*member);
    gradients.push_back(incoming.*member);
  }
  Gradients result;
  std::vector<at::Tensor*> targets;
  const auto want = [&](const at::Tensor& tensor, at::Tensor& target) {
    if (!tensor.defined() || !tensor.requires_grad()) return;
    inputs.push_back(tensor);
    targets.push_back(&target);
  };
  want(input.state, result.state);
  want(input.stored, result.stored);
  want(input.projection, result.projection);
  want(settings.beta, result.beta);
  if (outputs.empty() || inputs.empty()) return result;
  const auto found = torch::autograd::grad(outputs, inputs, gradients, /*retain_graph=*/true, /*create_graph=*/true,
                                           /*allow_unused=*/true);
  for (size_t i = 0; i < targets.size(); ++i) *targets[i] = found[i];
  return result;
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
                            : run_backward(input, settings, rest->seed, saved, saved_tensors[7], incoming);
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
