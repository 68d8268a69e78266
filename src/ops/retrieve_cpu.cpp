#include "ops/cpu_passes.h"
#include "ops/retrieve_passes.h"

#include <ATen/ATen.h>

namespace hopfield::detail {
namespace {

RetrieveResult forward(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved) {
  return forward_pass({input, settings, seed}, settings, saved);
}

RetrieveGradients backward(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed,
                           const Saved& saved, const RetrieveResult& incoming, std::array<bool, 2> wants) {
  RetrieveGradients result;
  if (wants[0] || wants[1]) {  // one walk over the patterns finds both
    result.stored = gradient_like(input.stored);
    if (input.projection.defined()) result.projection = gradient_like(input.projection);
  }
  PoolResult all;
  static_cast<RetrieveResult&>(all) = incoming;
  const auto passed = backward_pass({input, settings, seed}, settings, saved, all, result.stored, result.projection);
  result.state = passed.state;
  result.beta = passed.beta;
  return result;
}

const RegisterRetrievePasses kRegistration(c10::DeviceType::CPU, {reason_against_cpu, forward, backward});

}  // namespace
}  // namespace hopfield::detail
