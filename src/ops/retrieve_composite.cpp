#include "core/mask.h"
#include "core/shared_matmul.h"
#include "ops/call_tensors.h"
#include "ops/capture.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>

namespace hopfield::detail {
namespace {

/// The values of all heads as [1, H, 1, 1], or [1, 1, 1, 1] if the heads share one value. It is made by full(), since
/// tensor() needs memory, which traced tensors do not have.
template <typename T>
at::Tensor per_head_tensor(const PerHead<T>& value, const at::TensorOptions& options) {
  std::vector<at::Tensor> heads;
  for (const auto entry : value.values()) heads.push_back(at::full({1, 1, 1, 1}, entry, options));
  return at::cat(heads, 1);
}

/// What every step needs of a checked call, in the dtype of the computation.
struct Problem {
  at::Tensor query;       // [N, H, L, d]
  at::Tensor stored;      // [N or 1, H or 1, S, d]
  at::Tensor projection;  // [N or 1, H or 1, S, d_v]
  at::Tensor beta;        // [] or [H, 1, 1]
  core::ScoreMask mask;
  Separation separation = Separation::softmax();
  at::Tensor projection_poisoned;  // [.., 1, S]: values that are not finite and were replaced by zeros, or undefined
  bool has_values;                 // they may be read back, for example to leave the loop of updates early
  bool transformed;                // see is_transformed()

  at::Tensor scores(const at::Tensor& state) const { return core::scores(state, stored, beta, mask); }
  at::Tensor weights(const at::Tensor& state) const { return core::association(scores(state), mask, separation); }
  at::Tensor update(const at::Tensor& state) const { return core::update(state, stored, beta, mask, separation); }
};

/// The patterns with zeros in place of those that are not finite, and where these were. Since 0 * NaN is NaN, a pattern
/// that some query may not attend to has to be taken out of the products. The rows that may attend to it are set to NaN
/// instead.
std::pair<at::Tensor, at::Tensor> without_nonfinite(const at::Tensor& patterns) {
  const auto poisoned = at::isfinite(patterns.detach()).all(-1).bitwise_not();  // [.., S]
  return {patterns.masked_fill(poisoned.unsqueeze(-1), 0.0), poisoned.unsqueeze(-2)};
}

/// Throws for calls that vmap has batched and whose sizes are symbols: LibTorch's products need numbers there.
void check_vmap_of_any_size(const RetrieveInput& input, const RetrieveSettings& settings) {
  for (const auto* tensor : tensors_of(input, settings)) {
    TORCH_CHECK(
        !is_batched(*tensor) || !tensor->unsafeGetTensorImpl()->has_symbolic_sizes_strides(),
        "hopfield::retrieve: expected known sizes where vmap batches a call inside of torch.compile, got symbolic "
        "ones, ",
        tensor->sym_sizes(), "; compile with dynamic=False, or vmap outside");
  }
}

Problem make_problem(const RetrieveInput& input, const RetrieveSettings& settings) {
  const auto dtype = at::toOpMathType(input.state.scalar_type());
  Problem problem;
  const auto tensors = tensors_of(input, settings);
  problem.has_values = !is_recording() && std::all_of(tensors.begin(), tensors.end(),
                                                      [](const auto* tensor) { return has_values(*tensor); });
  problem.transformed =
      std::any_of(tensors.begin(), tensors.end(), [](const auto* tensor) { return is_transformed(*tensor); });
  if (!problem.has_values) check_vmap_of_any_size(input, settings);
  problem.separation = settings.separation;
  problem.query = input.state.to(dtype);
  problem.stored = input.stored.to(dtype);
  const bool same = !input.projection.defined();
  problem.projection = same ? problem.stored : input.projection.to(dtype);
  if (settings.beta.defined()) {
    problem.beta =
        settings.beta.dim() == 0 ? settings.beta : settings.beta.to(problem.query.options()).view({-1, 1, 1});
  } else {
    const auto depth = input.state.sym_size(-1).guard_int(__FILE__, __LINE__);
    problem.beta = at::scalar_tensor(default_beta(depth), at::kDouble);
  }

  at::Tensor excluded = input.masks.padding_mask, bias;
  if (input.masks.is_causal) {
    const auto behind = core::behind_queries(input.state.sym_size(-2), input.stored.sym_size(-2), input.state.device());
    excluded = excluded.defined() ? excluded.bitwise_or(behind) : behind;
  }
  if (input.masks.key_bias.defined()) bias = input.masks.key_bias.to(dtype);
  if (const auto& mask = input.masks.association_mask; mask.defined()) {
    if (mask.scalar_type() == at::kBool) {
      excluded = excluded.defined() ? excluded.bitwise_or(mask) : mask;
    } else {
      bias = bias.defined() ? bias + mask.to(dtype) : mask.to(dtype);
    }
  }
  at::Tensor poisoned;
  if (excluded.defined() || bias.defined()) {
    std::tie(problem.stored, poisoned) = without_nonfinite(problem.stored);
    if (same) {
      problem.projection = problem.stored;
    } else {
      std::tie(problem.projection, problem.projection_poisoned) = without_nonfinite(problem.projection);
    }
  }
  problem.mask = core::make_score_mask(problem.stored, bias, excluded, poisoned);
  return problem;
}

/// The result of the updates. Tensors without a shape are [N, H, L, 1].
struct Solution {
  at::Tensor state;  // [N, H, L, d]
  at::Tensor cut;    // [N, H, L, d]: the state `trail` updates before the end, or the query if there were fewer
  at::Tensor steps;  // int64
  at::Tensor residual;
  at::Tensor converged;  // bool
  at::Tensor scores;     // [N, H, L, S] at `state` if the rule computed them
};

/// What the loops of both stop rules share: which rows are active, how many steps they have made, and the state from
/// which gradients start.
class Iteration {
 public:
  Iteration(const Problem& problem, const RetrieveSettings& settings, int64_t trail)
      : problem_(problem), trail_(trail) {
    const auto& query = problem.query;
    const std::vector<c10::SymInt> row_shape{query.sym_size(0), query.sym_size(1), query.sym_size(2), 1};
    auto steps_max = settings.update_steps_max.values();
    for (auto& steps : steps_max) {
      until_converged_ |= steps < 0;
      if (steps < 0) steps = settings.update_steps_cap;
      most_steps_ = std::max(most_steps_, steps);
    }
    const auto& eps = settings.update_steps_eps.values();
    has_threshold_ = std::any_of(eps.begin(), eps.end(), [](double value) { return value > 0; });
    lockstep_ = !has_threshold_ && steps_max.size() == 1 && !problem.mask.dead.defined();
    TORCH_CHECK(!until_converged_ || problem.has_values,
                "hopfield::retrieve: expected a fixed number of update steps under vmap, under a "
                "TorchDispatchMode and under torch.func inside torch.compile, got until_converged, which reads values "
                "to decide when to stop; set update_steps_max");
    // To leave the loop early, values have to be read. On a GPU that waits for them, so it is done only now and then.
    constexpr int64_t kNowAndThen = 16;
    if (problem.has_values)
      looks_every_ = until_converged_ || query.is_cpu() ? 1 : is_capturing(query) ? 0 : kNowAndThen;
    eps_ = per_head_tensor(settings.update_steps_eps, query.options());
    steps_max_ = per_head_tensor(PerHead<int64_t>(steps_max), query.options().dtype(at::kLong));
    solution.state = query;
    solution.cut = query;
    solution.steps = at::zeros_symint(row_shape, query.options().dtype(at::kLong));
    solution.residual = at::full_symint(row_shape, std::numeric_limits<double>::quiet_NaN(), query.options());
    frozen_ = at::zeros_symint(row_shape, query.options().dtype(at::kBool));
    if (problem.mask.dead.defined()) {
      frozen_ = frozen_.bitwise_or(problem.mask.dead);
      solution.residual = solution.residual.masked_fill(problem.mask.dead, 0.0);
    }
  }

  /// Decides which rows make step number `step`. Returns false if none does, which ends the loop.
  bool begin_step(int64_t step) {
    if (step >= most_steps_) return false;
    if (!lockstep_) {
      active_ = frozen_.bitwise_not().bitwise_and(steps_max_ > step);
      const bool looks = looks_every_ > 0 && step % looks_every_ == looks_every_ - 1;
      if (looks && !active_.any().item<bool>()) return false;
    }
    if (trail_ > 0) {
      past_.push_back(solution.state);
      if (static_cast<int64_t>(past_.size()) > trail_) past_.pop_front();
    }
    return true;
  }

  /// Active rows move to `next`.
  void move(const at::Tensor& next) {
    solution.state = lockstep_ ? next : at::where(active_, next, solution.state);
    if (trail_ >= 0) {
      const auto& back = trail_ == 0 ? solution.state : past_.front();
      solution.cut = lockstep_ ? back : at::where(active_, back, solution.cut);
    }
    solution.steps = lockstep_ ? solution.steps + 1 : solution.steps + active_;
  }

  /// Freezes active rows whose residual [N or 1, H, L or 1, 1] met the threshold, or is not a number any more.
  void stop_where_small(const at::Tensor& residual) {
    if (lockstep_) {
      solution.residual = residual.expand_as(solution.residual).contiguous();
      return;
    }
    solution.residual = at::where(active_, residual, solution.residual);
    if (has_threshold_) {
      const auto done = residual.le(eps_).bitwise_and(eps_ > 0).bitwise_or(at::isfinite(residual).bitwise_not());
      frozen_ = frozen_.bitwise_or(done.bitwise_and(active_));
    }
  }

  Solution finish() {
    solution.converged = solution.residual.le(eps_);
    if (problem_.mask.dead.defined()) solution.converged = solution.converged.bitwise_or(problem_.mask.dead);
    return solution;
  }

  Solution solution;

 private:
  const Problem& problem_;
  int64_t trail_;
  std::deque<at::Tensor> past_;
  int64_t most_steps_ = 0;
  bool until_converged_ = false;
  bool has_threshold_ = false;
  bool lockstep_ = false;  // every row makes every step: no selection needed
  int64_t looks_every_ = 0;
  at::Tensor eps_, steps_max_, frozen_, active_;
};

Solution solve_per_query(const Problem& problem, const RetrieveSettings& settings, int64_t trail) {
  Iteration iteration(problem, settings, trail);
  for (int64_t step = 0; iteration.begin_step(step); ++step) {
    const auto& before = iteration.solution.state;
    const auto next = problem.update(before);
    const auto residual = at::linalg_vector_norm(next.detach() - before.detach(), 2, {-1}, /*keepdim=*/true);
    iteration.move(next);
    iteration.stop_where_small(residual);
  }
  return iteration.finish();
}

Solution solve_per_head(const Problem& problem, const RetrieveSettings& settings, int64_t trail) {
  Iteration iteration(problem, settings, trail);
  iteration.solution.scores = problem.scores(problem.query);
  auto weights = core::association(iteration.solution.scores, problem.mask, problem.separation);
  for (int64_t step = 0; iteration.begin_step(step); ++step) {
    const auto next = core::shared_matmul(weights, problem.stored);
    iteration.move(problem.mask.dead.defined() ? at::where(problem.mask.dead, iteration.solution.state, next) : next);
    iteration.solution.scores = problem.scores(iteration.solution.state);
    auto next_weights = core::association(iteration.solution.scores, problem.mask, problem.separation);
    const auto rows = (next_weights.detach() - weights.detach()).pow(2).sum(-1, /*keepdim=*/true);  // [N, H, L, 1]
    // A row that is not a number must not stop the others of its head.
    const auto norms = at::where(at::isfinite(rows), rows, at::zeros_like(rows)).sum(2, /*keepdim=*/true).sqrt();
    iteration.stop_where_small(norms.sym_numel() > 0 ? norms.amax(0, /*keepdim=*/true) : norms);  // [1, H, 1, 1]
    weights = std::move(next_weights);
  }
  return iteration.finish();
}

Solution solve(const Problem& problem, const RetrieveSettings& settings, int64_t trail = -1) {
  return settings.stop_rule == StopRule::per_query ? solve_per_query(problem, settings, trail)
                                                   : solve_per_head(problem, settings, trail);
}

/// `counts` [N, H, L, 1] updates of each row.
at::Tensor advance(const Problem& problem, at::Tensor state, const at::Tensor& counts, int64_t most) {
  for (int64_t step = 0; step < most; ++step) state = at::where(counts > step, problem.update(state), state);
  return state;
}

/// The same states as solve() gives, but gradients pass only through the last k updates.
Solution solve_with_last_gradient(const Problem& problem, const RetrieveSettings& settings) {
  const auto k = settings.gradient.steps();
  Solution solution;
  {
    at::NoGradGuard no_grad;
    solution = solve(problem, settings, k);
  }
  const auto start = at::where(solution.steps < k, problem.query, solution.cut.detach());
  solution.state = advance(problem, start, solution.steps.clamp_max(k), k);
  solution.scores = at::Tensor();
  return solution;
}

/// J = beta K^T J_y K, with the Jacobian J_y of the weights, which is diag p - p p^T for softmax.
struct WeightedJacobian : UpdateJacobian {
  explicit WeightedJacobian(const Separation& of) : separation(of) {}

  Product product(const std::vector<at::Tensor>& given) const override {
    return [stored = given[0], beta = given[1], weights = given[2], of = separation](const at::Tensor& v) {
      const auto along = core::shared_matmul(v, stored.transpose(-2, -1));  // [N, H, L, S]
      return beta * core::shared_matmul(core::weights_derivative(weights, along, of), stored);
    };
  }

  Separation separation;
};

Solution solve_with_implicit_gradient(const Problem& problem, const RetrieveSettings& settings) {
  TORCH_CHECK(
      !problem.transformed,
      "hopfield::retrieve: expected no implicit gradient where torch.func or forward-mode differentiation "
      "transforms a tensor of the call, since its solver runs in a backward pass alone; use gradient = unrolled or "
      "last, or torch.autograd");
  Solution solution;
  at::Tensor start, weights;
  {
    at::NoGradGuard no_grad;
    solution = solve(problem, settings, 1);
    start = at::where(solution.converged, solution.state, solution.cut);
    weights = problem.weights(solution.state);
  }
  const auto jacobian = c10::make_intrusive<WeightedJacobian>(problem.separation);
  jacobian->tensors = {problem.stored.detach(), problem.beta.detach(), weights};
  solution.state = implicit_state(solution.state, problem.update(start), problem.query, solution.converged, jacobian);
  solution.scores = at::Tensor();
  return solution;
}

Solution solve_with_gradient(const Problem& problem, const RetrieveSettings& settings) {
  if (at::GradMode::is_enabled()) {
    switch (settings.gradient.kind()) {
      case Gradient::Kind::unrolled:
        break;
      case Gradient::Kind::last:
        return solve_with_last_gradient(problem, settings);
      case Gradient::Kind::implicit:
        return solve_with_implicit_gradient(problem, settings);
    }
  }
  return solve(problem, settings);
}

}  // namespace

RetrieveResult retrieve_dense(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed,
                              int64_t first_n) {
  const auto problem = make_problem(input, settings);
  const auto solution = solve_with_gradient(problem, settings);
  const auto scores = solution.scores.defined() ? solution.scores : problem.scores(solution.state);
  auto [weights, conjugate] = core::associate(scores, problem.mask, problem.separation);
  if (problem.projection_poisoned.defined()) {
    auto reachable = problem.projection_poisoned;
    if (problem.mask.excluded.defined()) reachable = reachable.bitwise_and(problem.mask.excluded.bitwise_not());
    weights = weights.masked_fill(reachable, std::numeric_limits<double>::quiet_NaN());
  }
  if (settings.dropout > 0) {
    TORCH_CHECK(
        problem.has_values,
        "hopfield::retrieve: expected no dropout where torch.func transforms a call inside of torch.compile, got ",
        settings.dropout, ": its mask would be drawn once for all runs; set dropout to 0");
    weights = weights * dropout_factors(weights.sizes(), settings.dropout, seed, first_n, weights.options());
  }
  const auto dtype = input.state.scalar_type();
  RetrieveResult result;
  result.output = core::shared_matmul(weights, problem.projection).to(dtype);
  // A copy: without updates it would be the query itself, and otherwise what autograd keeps for the last association.
  result.state = solution.state.to(dtype, /*non_blocking=*/false, /*copy=*/true);
  result.logsumexp = conjugate;
  result.steps = solution.steps.squeeze(-1);
  result.residual = solution.residual.squeeze(-1);
  result.converged = solution.converged.squeeze(-1);
  if (settings.with_energy) {
    result.energy = core::energy_from_conjugate(conjugate, solution.state, problem.stored, problem.beta, problem.mask,
                                                problem.separation);
  }
  if (settings.with_scores) result.scores = scores;
  return result;
}

at::Tensor retrieve_energy(const RetrieveInput& input, const RetrieveSettings& settings, const at::Tensor& state,
                           const at::Tensor& logsumexp) {
  const auto problem = make_problem(input, settings);
  return core::energy_from_conjugate(logsumexp, state.to(problem.query.scalar_type()), problem.stored, problem.beta,
                                     problem.mask, problem.separation);
}

}  // namespace hopfield::detail
