// The implicit gradient on the fused kernels.

#include "ops/capture.h"
#include "ops/device_kernels.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

namespace hopfield::detail {
namespace {

/// Settings of one association without updates.
RetrieveSettings association_alone(RetrieveSettings settings) {
  settings.update_steps_max = int64_t{0};
  settings.update_steps_eps = 0.0;
  settings.stop_rule = StopRule::per_query;
  settings.gradient = Gradient::unrolled();
  return settings;
}

/// J v is what the gradient v of softmax(beta xi K^T) K becomes at xi.
struct FusedJacobian : UpdateJacobian {
  explicit FusedJacobian(OpCall association) : call(std::move(association)) {
    auto& beta = call.settings.beta;
    beta = beta.defined() ? beta.detach() : at::Tensor();
    for (auto* tensor : tensors_of(call)) tensors.push_back(std::exchange(*tensor, at::Tensor()));
  }

  Product product(const std::vector<at::Tensor>& given) const override {
    auto association = call;
    size_t i = 0;
    for (auto* tensor : tensors_of(association)) *tensor = given[i++];
    Saved saved;  // of the association at xi
    saved.steps = kernels_for(association).forward(association, &saved).steps;
    return [association, saved](const at::Tensor& v) {
      PoolResult incoming;
      incoming.output = v;
      return kernels_for(association).backward(association, saved, incoming, false).state;
    };
  }

  OpCall call;
};

}  // namespace

PoolResult run_fused_with_implicit_gradient(const OpCall& call) {
  const auto& settings = call.settings;
  TORCH_CHECK(
      !is_capturing(call.input.state),
      "hopfield::retrieve: expected no implicit gradient while a CUDA graph is being captured, since its solver "
      "looks at residuals; use the unrolled gradient");
  PoolResult solution;
  at::Tensor start;
  {
    const at::NoGradGuard no_grad;
    auto iteration = call;
    iteration.settings.dropout = 0.0;
    iteration.settings.with_scores = iteration.settings.with_energy = false;
    solution = kernels_for(call).forward(iteration, nullptr);
    start = solution.state;
    // A query that did not converge has made all updates: its gradient is that of the last one.
    if (settings.update_steps_cap > 0 && !solution.converged.all().item<bool>()) {
      iteration.settings.update_steps_cap -= 1;
      const auto before = kernels_for(call).forward(iteration, nullptr).state;
      start = at::where(solution.converged.unsqueeze(-1), solution.state, before);
    }
  }
  // One update from there, in float32, since conjugate gradients would not get far with less.
  auto update = call;
  update.settings = association_alone(settings);
  update.settings.dropout = 0.0;
  update.settings.with_scores = update.settings.with_energy = false;
  update.seed = 0;
  update.input.projection = at::Tensor();
  update.input.state = start.to(at::kFloat);
  update.input.stored = call.input.stored.to(at::kFloat);
  const auto refined = run_fused(update);
  const auto nothing = at::isneginf(refined.logsumexp.detach()).unsqueeze(-1);
  update.input.state = solution.state.to(at::kFloat);
  update.input.stored = update.input.stored.detach();
  const auto state =
      implicit_state(update.input.state, at::where(nothing, update.input.state, refined.output), call.input.state,
                     solution.converged.unsqueeze(-1), c10::make_intrusive<FusedJacobian>(update));
  auto read_out = call;
  read_out.input.state = state.to(call.input.state.scalar_type());
  read_out.settings = association_alone(settings);
  auto result = run_fused(read_out);
  result.steps = solution.steps;
  result.residual = solution.residual;
  result.converged = solution.converged;
  return result;
}

}  // namespace hopfield::detail
