#pragma once

#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

namespace hopfield::testing {

/// Whether a call makes the same updates with thresholds that are larger or smaller by the error of a residual in
/// float32. Otherwise errors decide, and steps cannot be compared. States are off by 2e-6: by kExp2Error twice, of the
/// weights and of their sum, times patterns of up to 3. This moves weights, which are 1/10 or so and of which the rule
/// per_head sees the change, by a part of themselves.
/// @param call  makes the call in float64 with the options it gets, and returns its steps
template <class Call>
bool decides_clearly(const RetrieveOptions& options, const Call& call) {
  const at::NoGradGuard no_grad;
  const double error = options.stop_rule() == StopRule::per_head ? 3e-7 : 2e-6;
  const auto steps = [&](double change) {
    auto moved = options;
    auto thresholds = options.update_steps_eps().values();
    for (auto& eps : thresholds) eps = eps > 0 ? std::max(eps + change, 0.0) : eps;
    const at::Tensor found = call(moved.update_steps_eps(thresholds).generator(at::detail::createCPUGenerator(7)));
    return found.cpu();
  };
  return steps(-error).equal(steps(error));
}

}  // namespace hopfield::testing
