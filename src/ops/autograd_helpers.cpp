#include "ops/autograd_helpers.h"

#include "ops/capture.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <kernels/cpu/buffer.h>

#include <algorithm>
#include <iterator>

namespace hopfield::detail {

bool keeps_states(const OpCall& call) {
  constexpr int64_t kFew = 16;
  const auto& steps = call.settings.update_steps_max.values();
  const auto& eps = call.settings.update_steps_eps.values();
  const auto most = std::max_element(steps.begin(), steps.end());
  if (std::any_of(steps.begin(), steps.end(), [](int64_t count) { return count < 0; })) return false;
  const bool makes_all = std::all_of(eps.begin(), eps.end(), [](double value) { return value == 0; });
  return makes_all || most == steps.end() || *most <= kFew || is_capturing(call.input.state);
}

void check_replay(const OpCall& call, const Saved& saved) {
  TORCH_CHECK(
      saved.states.defined() || !is_capturing(call.input.state), call.name(),
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
  // All rows of a head have stopped together, after that many updates.
  if (settings.stop_rule == StopRule::per_head) settings.update_steps_eps = 0.0;
  settings.stop_rule = StopRule::per_query;
  settings.with_scores = false;
  return settings;
}

at::Tensor beta_gradient(const at::Tensor& shares, const at::Tensor& beta) {
  const bool per_head = beta.dim() == 1 && beta.size(0) > 1;
  const auto by_head = shares.transpose(0, 1).flatten(1);  // [H, N * L]; of ragged queries shares are [total_L, H]
  const auto summed = per_head ? by_head.sum(at::IntArrayRef{1}, false, at::kDouble) : shares.sum(at::kDouble);
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
