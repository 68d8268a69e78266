#include "ops/cpu_passes.h"

#include "ops/call_tensors.h"
#include "ops/capture.h"
#include "ops/parallel.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <kernels/cpu/buffer.h>

#include <algorithm>
#include <iterator>
#include <limits>

namespace hopfield::detail {
namespace {

/// An uninitialised tensor for the scores, [N, H, L, S] or ragged [total, H, L], made known to `outputs`.
at::Tensor make_scores(const kernels::RetrieveProblem& p, const at::TensorOptions& options,
                       kernels::RetrieveOutputs& outputs) {
  const bool ragged = p.offsets != nullptr;
  const auto scores = ragged ? at::empty({p.keys, p.heads, p.queries}, options)
                             : at::empty({p.batch, p.heads, p.queries, p.keys}, options);
  outputs.scores = scores.data_ptr<float>();
  outputs.score_batch = ragged ? 0 : scores.stride(0);
  outputs.score_head = scores.stride(1);
  outputs.score_query = scores.stride(2);
  outputs.score_key = scores.stride(ragged ? 0 : 3);
  return scores;
}

float* pointer(const at::Tensor& tensor) { return tensor.defined() ? tensor.data_ptr<float>() : nullptr; }

}  // namespace

PoolResult forward_pass(const CpuCall& call, const RetrieveSettings& settings, Saved* saved) {
  const auto& p = call.problem();
  const auto floats = at::TensorOptions().dtype(at::kFloat);
  const auto patterns = floats.dtype(p.type == kernels::Type::float32 ? at::kFloat : at::kBFloat16);
  const std::vector<int64_t> rows{p.batch, p.heads, p.queries};
  // Heads next to widths: layers merge them without a copy. No views: those of a node's results may not be changed in
  // place.
  const auto merged = [&](int64_t width) {
    const auto row = p.heads * width;
    return at::empty_strided({p.batch, p.heads, p.queries, width}, {p.queries * row, width, row, 1}, patterns);
  };
  PoolResult r;
  r.output = merged(p.width);
  r.state = merged(p.state_depth());
  r.logsumexp = at::empty(rows, floats);
  r.residual = at::empty(rows, floats);
  r.steps = at::empty(rows, floats.dtype(at::kLong));
  r.converged = at::empty(rows, floats.dtype(at::kBool));
  if (p.map != nullptr) r.mass = at::empty(rows, floats);
  kernels::RetrieveOutputs outputs;
  outputs.output = strides_of(r.output);
  outputs.state = strides_of(r.state);
  outputs.logsumexp = pointer(r.logsumexp);
  outputs.residual = pointer(r.residual);
  outputs.mass = pointer(r.mass);
  outputs.steps = r.steps.data_ptr<int64_t>();
  outputs.converged = r.converged.data_ptr<bool>();
  if (settings.with_scores) r.scores = make_scores(p, floats, outputs);
  if (saved != nullptr) {
    const auto steps = call.most_steps();
    saved->states = at::empty({steps, p.batch, p.heads, p.queries, p.state_depth()}, floats);
    saved->sums = at::empty({steps + 1, p.batch, p.heads, p.queries, 2}, floats);
    saved->output = at::empty({p.batch, p.heads, p.queries, p.width}, floats);
    if (p.map != nullptr) saved->means = at::zeros({steps, p.batch, p.heads, p.queries, p.depth}, floats);
    outputs.saved_states = pointer(saved->states);
    outputs.saved_sums = pointer(saved->sums);
    outputs.saved_output = pointer(saved->output);
    outputs.saved_means = pointer(saved->means);
  }
  kernels::retrieve_forward(p, outputs, on_threads());
  if (saved != nullptr && p.map != nullptr) saved->mass = r.mass.clone();
  return r;
}

PassedBack backward_pass(const CpuCall& call, const RetrieveSettings& settings, const Saved& saved,
                         const PoolResult& incoming, const at::Tensor& stored, const at::Tensor& values) {
  const auto& p = call.problem();
  const auto plain = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.detach().to(at::kFloat).contiguous() : at::Tensor();
  };
  const auto output = incoming.output.defined() ? plain(incoming.output) : at::zeros_like(saved.output);
  const auto state = plain(incoming.state), logsumexp = plain(incoming.logsumexp), mass = plain(incoming.mass);
  const auto floats = saved.output.options();
  PassedBack result;
  result.state = gradient_like(call.state());
  result.beta = at::empty({p.batch, p.heads, p.queries}, floats);
  kernels::RetrieveGradients g;
  g.output = pointer(output);
  g.state = pointer(state);
  g.logsumexp = pointer(logsumexp);
  g.mass = pointer(mass);
  g.saved_states = pointer(saved.states);
  g.saved_sums = pointer(saved.sums);
  g.saved_output = pointer(saved.output);
  g.saved_means = pointer(saved.means);
  g.final_mass = pointer(saved.mass);
  g.steps = saved.steps.data_ptr<int64_t>();
  g.most_steps = call.most_steps();
  if (settings.gradient.kind() == Gradient::Kind::last) g.last_steps = settings.gradient.steps();
  g.query = strides_of(result.state);
  if (stored.defined()) g.stored = strides_of(stored);
  if (values.defined()) g.values = strides_of(values);
  g.beta = pointer(result.beta);
  if (p.map != nullptr) {
    result.products = at::empty({g.most_steps + 1, p.batch, p.heads, p.queries, p.depth}, floats);
    result.states = at::empty({g.most_steps, p.batch, p.heads, p.queries, p.state_depth()}, floats);
    g.products = pointer(result.products);
    g.states = pointer(result.states);
  }
  kernels::retrieve_backward(p, g, on_threads());
  if (p.batch * p.heads * p.queries == 0) {  // no query, and nobody wrote the gradients of patterns
    for (const auto* gradient : {&stored, &values}) {
      if (gradient->defined()) gradient->zero_();
    }
  }
  return result;
}

bool keeps_states(const RetrieveSettings& settings, const at::Tensor& state) {
  constexpr int64_t kFew = 16;
  const auto& steps = settings.update_steps_max.values();
  const auto& eps = settings.update_steps_eps.values();
  const auto most = std::max_element(steps.begin(), steps.end());
  if (std::any_of(steps.begin(), steps.end(), [](int64_t count) { return count < 0; })) return false;
  const bool makes_all = std::all_of(eps.begin(), eps.end(), [](double value) { return value == 0; });
  return makes_all || most == steps.end() || *most <= kFew || is_capturing(state);
}

void check_replay(const char* function, const Saved& saved, const at::Tensor& state) {
  TORCH_CHECK(
      saved.states.defined() || !is_capturing(state), function,
      ": expected no backward pass of until_converged, or of a threshold with many updates, while a CUDA graph is "
      "being captured, since it reads how many updates were made; set update_steps_max, and update_steps_eps to 0 "
      "for many updates");
}

RetrieveSettings replay_settings(RetrieveSettings settings, const at::Tensor& steps) {
  std::vector<int64_t> most;
  for (int64_t h = 0; h < steps.size(1); ++h) {
    const auto of_head = steps.select(1, h);
    most.push_back(of_head.numel() > 0 ? of_head.max().item<int64_t>() : 0);
  }
  if (most.empty()) most.push_back(0);
  settings.update_steps_max = most;
  // Its rows all stopped together, after that many.
  if (settings.stop_rule == StopRule::per_head) settings.update_steps_eps = 0.0;
  settings.stop_rule = StopRule::per_query;
  settings.with_scores = false;
  return settings;
}

bool any_needs_gradient(std::initializer_list<at::Tensor> tensors) {
  return at::GradMode::is_enabled() && std::any_of(tensors.begin(), tensors.end(), wants_gradient);
}

at::Tensor beta_gradient(const at::Tensor& shares, const at::Tensor& beta) {
  const bool per_head = beta.dim() == 1 && beta.size(0) > 1;
  const auto summed = per_head ? shares.sum(at::IntArrayRef{0, 2}, false, at::kDouble) : shares.sum(at::kDouble);
  return summed.view(beta.sizes()).to(beta.options().requires_grad(false));
}

std::vector<at::Tensor> differentiable_gradients(const std::vector<at::Tensor>& outputs,
                                                 const std::vector<at::Tensor>& incoming,
                                                 const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> reached, gradients, wanted;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!incoming[i].defined() || !outputs[i].requires_grad()) continue;
    reached.push_back(outputs[i]);
    gradients.push_back(incoming[i]);
  }
  std::copy_if(inputs.begin(), inputs.end(), std::back_inserter(wanted), wants_gradient);
  std::vector<at::Tensor> result(inputs.size());
  if (reached.empty() || wanted.empty()) return result;
  const auto found = torch::autograd::grad(reached, wanted, gradients, /*retain_graph=*/true, /*create_graph=*/true,
                                           /*allow_unused=*/true);
  for (size_t i = 0, next = 0; i < inputs.size(); ++i) {
    if (wants_gradient(inputs[i])) result[i] = found[next++];
  }
  return result;
}

at::Tensor gradient_like(const at::Tensor& patterns) {
  auto result = at::empty_like(patterns.detach());
  if (result.stride(-1) != 1 && result.size(-1) > 1) result = at::empty(patterns.sizes(), result.options());
  if (result.is_cpu()) kernels::want_large_pages(result.data_ptr(), result.nbytes());
  return result;
}

}  // namespace hopfield::detail
