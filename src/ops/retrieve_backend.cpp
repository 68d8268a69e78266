#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>

namespace hopfield::detail {
namespace {

struct FusedCall {
  const RetrieveInput& input;
  const RetrieveSettings& settings;
};

using Reason = std::optional<std::string>;

Reason no_kernel_for_device(const FusedCall& call) {
  return c10::str("this build has no fused kernel for ", call.input.state.device().type(), " tensors");
}

}  // namespace

Reason reason_against_fusing(const RetrieveInput& input, const RetrieveSettings& settings) {
  const FusedCall call{input, settings};
  for (const auto predicate : {no_kernel_for_device}) {
    if (auto reason = predicate(call)) return reason;
  }
  return std::nullopt;
}

}  // namespace hopfield::detail
