#include "memory/lagrangian_watch.h"

#include <ATen/ATen.h>

#include <limits>
#include <utility>

namespace hopfield::memory::detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const char* reason_of(core::OdeFailure failure) {
  switch (failure) {
    case core::OdeFailure::not_finite:
      return "the states, or their speed, are not finite from there on, as where an energy has no lower bound";
    case core::OdeFailure::step_underflow:
      return "the tolerance asks for steps too short to change the time, as where an activation jumps, or states "
             "run to infinity; use discrete updates, or Lagrangians with a bounded energy";
    case core::OdeFailure::too_many_steps:
      return "ode.steps_max steps did not suffice, as where the time constants of a stiff system differ much; raise "
             "it, "
             "or bring the time constants closer together";
    default:
      return "the solver stopped";
  }
}

}  // namespace

HessianWatch::HessianWatch(const Lagrangian& lagrangian, at::Tensor time_constant, const at::Tensor& states)
    : lagrangian_(lagrangian),
      time_constant_(std::move(time_constant)),
      tolerance_(states.scalar_type() == at::kDouble ? 1e-9 : 1e-4),
      first_negative_(at::full({states.size(0)}, kInfinity, states.options().dtype(at::kDouble).requires_grad(false))) {
}

void HessianWatch::see(const at::Tensor& which, const at::Tensor& time, const at::Tensor& x, const at::Tensor& y) {
  const auto product = lagrangian_.hessian_product(x, y);
  const auto weighted = time_constant_.defined() ? time_constant_ * y : y;
  const auto form = (weighted * product).sum(-1);
  // The first length allows for Hessians whose products are what rounding leaves of larger numbers.
  const auto lengths = at::linalg_vector_norm(y, 2, {-1}) + at::linalg_vector_norm(product, 2, {-1});
  const auto rounding = tolerance_ * at::linalg_vector_norm(weighted, 2, {-1}) * lengths;
  const auto is_negative = form.lt(-rounding);  // false where something is not a number
  const auto before = first_negative_.index_select(0, which);
  first_negative_.index_copy_(0, which, at::minimum(before, at::where(is_negative, time, kInfinity)));
}

std::string HessianWatch::breach(const char* layer) const {
  const auto row = first_negative_.argmin().item<int64_t>();
  const bool has_different_times = time_constant_.defined() && time_constant_.numel() > 0 &&
                                   time_constant_.ne(time_constant_.flatten()[0]).any().item<bool>();
  return c10::str(
      "the Hessian of the ", layer, " Lagrangian ", lagrangian_.name(), " was negative along the motion of row ", row,
      " at the time ", first_negative_[row].item<double>(),
      has_different_times ? ", as it can be where the neurons of a layer have different time constants" : "");
}

std::string promise_of(const HessianWatch& feature, const HessianWatch& hidden) {
  const bool feature_holds = feature.is_positive().all().item<bool>();
  const bool hidden_holds = hidden.is_positive().all().item<bool>();
  if (feature_holds && hidden_holds) {
    return "The energy does not rise, but for rounding and the tolerance of the solver: no Hessian was negative along "
           "the motion.";
  }
  return "Nothing is promised of the energy: " + (feature_holds ? hidden.breach("hidden") : feature.breach("feature")) +
         ".";
}

std::string failure_of(const core::OdeResult& result, double end) {
  if (result.converged.all().item<bool>()) return "";
  const auto row = result.converged.logical_not().to(at::kLong).argmax().item<int64_t>();
  return c10::str(
      "expected row ", row, " to reach the time ", end, ", but it got to ", result.time[row].item<double>(),
      ", whose state is kept: ", reason_of(static_cast<core::OdeFailure>(result.failure[row].item<int8_t>())));
}

std::string overflow_of(const at::Tensor& states) {
  const auto is_finite = at::isfinite(states).all(-1);  // [updates + 1, Q]
  if (is_finite.all().item<bool>()) return "";
  const auto update = is_finite.all(-1).logical_not().to(at::kLong).argmax().item<int64_t>();
  return c10::str("expected finite states, got some that are infinite or not a number after update ", update,
                  "; an activation grows too fast for the sizes of weights and states");
}

}  // namespace hopfield::memory::detail
