#include "ops/cpu_passes.h"
#include "ops/pool_passes.h"

#include <ATen/ATen.h>

namespace hopfield::detail {
namespace {

std::optional<std::string> reason_against(const PoolInput&, const RetrieveSettings&) { return std::nullopt; }

std::string describe(const PoolInput&, const RetrieveSettings&) { return "the fused kernels of the CPU"; }

PoolResult forward(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed, Saved* saved) {
  return forward_pass({as_retrieve_input(input), input, settings, seed}, settings, saved);
}

PassedBack backward(const PoolInput& input, const RetrieveSettings& settings, uint64_t seed, const Saved& saved,
                    const PoolResult& incoming, const at::Tensor& instances) {
  return backward_pass({as_retrieve_input(input), input, settings, seed}, settings, saved, incoming,
                       instances.defined() ? instances.unsqueeze(1) : at::Tensor(), at::Tensor());
}

const RegisterPoolPasses kRegistration(c10::DeviceType::CPU, {reason_against, describe, forward, backward});

}  // namespace
}  // namespace hopfield::detail
