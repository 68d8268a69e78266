#include "core/ode_step.h"
#include <hopfield/core/ode.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace hopfield::core {
namespace {

/// What is known of some of the rows, one entry for each.
struct Rows {
  at::Tensor index;           // [n] int64, their places in the whole batch
  at::Tensor state;           // [n, d]
  at::Tensor derivative;      // [n, d], f at `state`
  at::Tensor time;            // [n, 1] float64
  at::Tensor length;          // [n, 1] float64, of the next step
  at::Tensor last_error;      // [n, 1] float64, of the last accepted step in units of the tolerance
  at::Tensor may_grow;        // [n, 1] bool: the last step was not rejected
  at::Tensor targets_passed;  // [n, 1] int64, the number of target times that were reached
  at::Tensor accepted;        // [n, 1] int64
  at::Tensor rejected;        // [n, 1] int64
  at::Tensor failure;         // [n, 1] int8

  static constexpr auto members() {
    return std::array{&Rows::index,    &Rows::state,      &Rows::derivative, &Rows::time,
                      &Rows::length,   &Rows::last_error, &Rows::may_grow,   &Rows::targets_passed,
                      &Rows::accepted, &Rows::rejected,   &Rows::failure};
  }

  Rows select(const at::Tensor& which) const {
    Rows chosen;
    for (const auto member : members()) chosen.*member = (this->*member).index_select(0, which);
    return chosen;
  }

  static Rows join(const std::vector<Rows>& parts) {
    Rows joined;
    for (const auto member : members()) {
      std::vector<at::Tensor> tensors;
      for (const auto& part : parts) tensors.push_back(part.*member);
      joined.*member = at::cat(tensors);
    }
    return joined;
  }
};

at::Tensor places_of(const at::Tensor& mask) { return mask.flatten().nonzero().squeeze(1); }

class Integration {
 public:
  /// Integrates through the targets, which may be {inf}, or until the speed is at most `threshold`.
  Integration(const char* caller, const OdeFunction& function, const OdeOptions& options, std::vector<double> targets,
              double threshold, bool keeps_trajectory)
      : caller_(caller),
        function_(function),
        options_(options),
        targets_(std::move(targets)),
        threshold_(threshold),
        to_rest_(threshold > 0),
        keeps_trajectory_(keeps_trajectory) {}

  OdeResult run(const at::Tensor& state, double start) {
    const auto whole = state.size(0);
    target_times_ = at::tensor(targets_, state.options().dtype(at::kDouble).requires_grad(false));
    begin(state, start);
    for (int64_t steps = 1; rows_.index.size(0) > 0; ++steps) {
      make_step();
      end_rows(/*is_last=*/steps >= options_.steps_max());
    }
    auto ended = Rows::join(ended_);
    ended = ended.select(ended.index.argsort());
    OdeResult result;
    result.state = ended.state;
    result.time = ended.time.squeeze(1);
    result.speed = largest(ended.derivative).squeeze(1).to(state.scalar_type());
    result.steps_accepted = ended.accepted.squeeze(1);
    result.steps_rejected = ended.rejected.squeeze(1);
    result.failure = ended.failure.squeeze(1);
    result.converged = result.failure.eq(static_cast<int8_t>(OdeFailure::none));
    if (keeps_trajectory_) result.trajectory = trajectory(state, whole);
    return result;
  }

 private:
  void begin(const at::Tensor& state, double start) {
    const auto rows = state.size(0);
    const auto column = [&](at::ScalarType type, double value) {
      return at::full({rows, 1}, value, state.options().dtype(type).requires_grad(false));
    };
    rows_.index = at::arange(rows, state.options().dtype(at::kLong).requires_grad(false));
    rows_.state = state.contiguous();
    rows_.time = column(at::kDouble, start);
    rows_.last_error = column(at::kDouble, kLeastLastError);
    rows_.may_grow = column(at::kBool, 1);
    rows_.targets_passed = column(at::kLong, start < targets_.front() ? 0 : static_cast<double>(targets_.size()));
    rows_.accepted = column(at::kLong, 0);
    rows_.rejected = column(at::kLong, 0);
    rows_.derivative = rows == 0 ? at::zeros_like(state) : derivative_of(function_, rows_.time, rows_.state, caller_);
    is_differentiated_ = at::GradMode::is_enabled() && (state.requires_grad() || rows_.derivative.requires_grad());
    const auto is_finite = at::isfinite(largest(state) + largest(rows_.derivative));
    rows_.failure = at::where(is_finite, code_of(OdeFailure::none), code_of(OdeFailure::not_finite)).to(at::kChar);
    rows_.length = column(at::kDouble, std::min(options_.first_step().value_or(0), options_.max_step()));
    retire(rows_.failure.ne(0).logical_or(has_arrived()));
    if (!options_.first_step() && rows_.index.size(0) > 0) {
      const at::NoGradGuard no_grad;
      rows_.length = first_length(function_, rows_.time, rows_.state, rows_.derivative, options_, caller_);
    }
  }

  /// Tries a step of every row, and takes those that are accepted.
  void make_step() {
    const auto target = target_times_.index_select(0, rows_.targets_passed.squeeze(1)).unsqueeze(1);  // [n, 1]
    const auto remaining = target - rows_.time;
    // A step that nearly reaches the target is stretched, so that no tiny one is left over.
    const auto lands = rows_.length.mul(1.01).ge(remaining);
    const auto length = at::where(lands, remaining, rows_.length);
    OdeStep step;
    at::Tensor error;  // [n, 1]
    {
      const at::NoGradGuard no_grad;
      step = dormand_prince_step(function_, rows_.time, length, rows_.state, rows_.derivative, caller_);
      error = relative_error(step, length, rows_.state, rows_.derivative, to_rest_, options_);
    }
    const auto is_accepted = error.le(1);
    take(step, is_accepted, length);
    rows_.time = at::where(is_accepted, at::where(lands, target, rows_.time + length), rows_.time);

    const auto factor = length_factor(error, rows_.last_error);
    const auto proposed =
        length * at::where(is_accepted.logical_and(rows_.may_grow), factor, factor.clamp_max(1.0));  // [n, 1]
    // A step that a target cut short says nothing against the length that was planned.
    const auto was_cut = is_accepted.logical_and(lands);
    rows_.length = at::where(was_cut, at::maximum(proposed, rows_.length), proposed).clamp_max(options_.max_step());
    rows_.last_error =
        at::where(is_accepted.logical_and(lands.logical_not()), error.clamp_min(kLeastLastError), rows_.last_error);
    rows_.may_grow = is_accepted;
    rows_.accepted = rows_.accepted + is_accepted;
    rows_.rejected = rows_.rejected + is_accepted.logical_not();
    rows_.targets_passed = rows_.targets_passed + was_cut;
    has_blown_up_ = at::isinf(error);
    if (keeps_trajectory_) keep_landed(was_cut);
  }

  /// Replaces the state of the rows whose step was accepted. For a gradient these steps are made again: autograd would
  /// turn what is not finite in a rejected step into NaN, even though nothing is used of it.
  void take(const OdeStep& step, const at::Tensor& is_accepted, const at::Tensor& length) {
    if (!is_differentiated_) {
      rows_.state = at::where(is_accepted, step.state, rows_.state);
      rows_.derivative = at::where(is_accepted, step.derivative, rows_.derivative);
      return;
    }
    const auto places = places_of(is_accepted);
    if (places.size(0) == 0) return;
    const auto of_accepted = [&](const at::Tensor& tensor) { return tensor.index_select(0, places); };
    const auto again = dormand_prince_step(function_, of_accepted(rows_.time), of_accepted(length),
                                           of_accepted(rows_.state), of_accepted(rows_.derivative), caller_);
    rows_.state = rows_.state.index_copy(0, places, again.state);
    rows_.derivative = rows_.derivative.index_copy(0, places, again.derivative);
  }

  at::Tensor has_arrived() const {
    const auto has_passed_all = rows_.targets_passed.eq(static_cast<int64_t>(targets_.size()));
    return to_rest_ ? has_passed_all.logical_or(largest(rows_.derivative).le(threshold_)) : has_passed_all;
  }

  /// Finds the rows that have arrived, or cannot go on.
  void end_rows(bool is_last) {
    const auto arrived = has_arrived();
    const auto shortest = rows_.time.abs().mul(16 * std::numeric_limits<double>::epsilon());
    const auto is_stuck = rows_.length.le(shortest.clamp_min(std::numeric_limits<double>::min()));
    const auto reason = at::where(has_blown_up_, code_of(OdeFailure::not_finite), code_of(OdeFailure::step_underflow));
    const auto otherwise = code_of(is_last ? OdeFailure::too_many_steps : OdeFailure::none);
    rows_.failure = at::where(arrived, code_of(OdeFailure::none), at::where(is_stuck, reason, otherwise)).to(at::kChar);
    retire(is_last ? at::ones_like(arrived) : arrived.logical_or(is_stuck));
  }

  /// Moves rows out of those that are at work. This asks the device once whether there are any.
  void retire(const at::Tensor& has_ended) {
    if (has_ended.size(0) > 0 && !has_ended.any().item<bool>()) return;
    ended_.push_back(rows_.select(places_of(has_ended)));
    rows_ = rows_.select(places_of(has_ended.logical_not()));
  }

  void keep_landed(const at::Tensor& has_landed) {
    const auto places = places_of(has_landed);
    if (places.size(0) == 0) return;
    landed_states_.push_back(rows_.state.index_select(0, places));
    landed_targets_.push_back(rows_.targets_passed.squeeze(1).index_select(0, places) - 1);
    landed_rows_.push_back(rows_.index.index_select(0, places));
  }

  /// The initial state, and the states at the targets. [1 + targets, rows, d]
  at::Tensor trajectory(const at::Tensor& state, int64_t whole) const {
    const auto first = state.unsqueeze(0);
    const auto passed = static_cast<int64_t>(targets_.size());
    const auto none =
        at::full({1, state.size(1)}, std::numeric_limits<double>::quiet_NaN(), state.options().requires_grad(false));
    if (landed_states_.empty()) return at::cat({first, none.expand({passed, whole, -1})});
    const auto states = at::cat(landed_states_);
    const auto places = at::cat(landed_targets_) * whole + at::cat(landed_rows_);
    auto source = at::full({passed * whole}, states.size(0), places.options());  // of each entry: its place in `states`
    source.index_copy_(0, places, at::arange(states.size(0), places.options()));
    return at::cat({first, at::cat({states, none}).index_select(0, source).view({passed, whole, -1})});
  }

  static at::Scalar code_of(OdeFailure failure) { return static_cast<int>(failure); }

  /// So that one lucky step does not hold back the next.
  static constexpr double kLeastLastError = 1e-4;

  const char* caller_;
  const OdeFunction& function_;
  const OdeOptions& options_;
  std::vector<double> targets_;
  double threshold_;
  bool to_rest_;
  bool keeps_trajectory_;
  bool is_differentiated_ = false;
  at::Tensor target_times_;  // [targets] float64
  at::Tensor has_blown_up_;  // [n, 1] bool: the last step was not finite
  Rows rows_;                // those at work
  std::vector<Rows> ended_;
  std::vector<at::Tensor> landed_states_, landed_targets_, landed_rows_;
};

void check(const char* caller, const OdeFunction& function, const at::Tensor& state, const OdeOptions& options) {
  TORCH_CHECK(function, caller, ": expected a right-hand side, got an empty function; pass f(time, state)");
  TORCH_CHECK(state.defined() && state.dim() == 2 && state.size(1) > 0, caller,
              ": expected state to have 2 dimensions [rows, d] with d at least 1, got ",
              state.defined() ? c10::str(state.sizes()) : "an undefined tensor",
              "; a single state is state.unsqueeze(0)");
  TORCH_CHECK(state.scalar_type() == at::kFloat || state.scalar_type() == at::kDouble, caller,
              ": expected state to be float32 or float64, got ", state.scalar_type(), "; convert it with state.to()");
  for (const auto tolerance : {options.rtol(), options.atol()}) {
    TORCH_CHECK(tolerance >= 0 && std::isfinite(tolerance), caller,
                ": expected rtol and atol to be finite and at least 0, got rtol ", options.rtol(), " and atol ",
                options.atol(), "; choose for example rtol 1e-6 and atol 1e-9");
  }
  TORCH_CHECK(options.rtol() + options.atol() > 0, caller,
              ": expected rtol or atol to be positive, got 0 for both; no step is without error");
  TORCH_CHECK(!options.first_step() || (*options.first_step() > 0 && std::isfinite(*options.first_step())), caller,
              ": expected first_step to be positive and finite, got ", *options.first_step(),
              "; leave it out to have it chosen");
  TORCH_CHECK(options.max_step() > 0, caller, ": expected max_step to be positive, got ", options.max_step(),
              "; leave it out for steps of any length");
  TORCH_CHECK(options.steps_max() > 0, caller, ": expected steps_max to be at least 1, got ", options.steps_max(),
              "; choose for example 10000");
}

}  // namespace

OdeResult integrate(const OdeFunction& function, const at::Tensor& state, double start, double end,
                    const OdeOptions& options) {
  constexpr auto* kCaller = "hopfield::core::integrate";
  check(kCaller, function, state, options);
  TORCH_CHECK(std::isfinite(start) && std::isfinite(end) && end >= start, kCaller,
              ": expected finite times with end at least start, got start ", start, " and end ", end,
              "; to integrate backwards, integrate -f(start - s, y) over s from 0");
  return Integration(kCaller, function, options, {end}, /*threshold=*/0, /*keeps_trajectory=*/false).run(state, start);
}

OdeResult integrate_at(const OdeFunction& function, const at::Tensor& state, const std::vector<double>& times,
                       const OdeOptions& options) {
  constexpr auto* kCaller = "hopfield::core::integrate_at";
  check(kCaller, function, state, options);
  TORCH_CHECK(!times.empty(), kCaller, ": expected at least one time, got none; the first one is the start");
  for (size_t i = 0; i < times.size(); ++i) {
    TORCH_CHECK(std::isfinite(times[i]) && (i == 0 || times[i] > times[i - 1]), kCaller,
                ": expected finite times, each later than the one before, got ", times[i], " at place ", i,
                "; sort them and leave out what is double");
  }
  if (times.size() == 1) {
    auto result = integrate(function, state, times[0], times[0], options);
    result.trajectory = result.state.unsqueeze(0).clone();
    return result;
  }
  return Integration(kCaller, function, options, {times.begin() + 1, times.end()}, /*threshold=*/0,
                     /*keeps_trajectory=*/true)
      .run(state, times.front());
}

OdeResult integrate_to_rest(const OdeFunction& function, const at::Tensor& state, double threshold,
                            const OdeOptions& options) {
  constexpr auto* kCaller = "hopfield::core::integrate_to_rest";
  check(kCaller, function, state, options);
  TORCH_CHECK(threshold > 0 && std::isfinite(threshold), kCaller,
              ": expected threshold to be positive and finite, got ", threshold,
              "; choose the largest |dy_i/dt| that counts as rest, for example 1e-8");
  return Integration(kCaller, function, options, {std::numeric_limits<double>::infinity()}, threshold,
                     /*keeps_trajectory=*/false)
      .run(state, 0.0);
}

}  // namespace hopfield::core
