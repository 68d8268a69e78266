// Why the fused kernels would not serve a call: one function for each reason.

#include "ops/fused_reasons.h"

#include "ops/device_kernels.h"
#include "ops/nonfinite.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>

#include <limits>
#include <tuple>

namespace hopfield::detail {
namespace {

using Reason = std::optional<std::string>;

Reason no_values(const OpCall& call) {
  for (const auto* tensor : tensors_of(call)) {
    if (is_transformed(*tensor)) return "torch.func or forward-mode differentiation transforms a tensor of the call";
    if (!has_values(*tensor)) return "a tensor of the call is traced: it has no values (meta, fake)";
  }
  return std::nullopt;
}

Reason gradient_of_masks(const OpCall& call) {
  for (const auto* tensor : {&call.input.masks.association_mask, &call.input.masks.key_bias}) {
    if (at::GradMode::is_enabled() && wants_gradient(*tensor)) return "a mask or key bias asks for a gradient";
  }
  return std::nullopt;
}

Reason other_separation(const OpCall& call) {
  const auto& separation = call.settings.separation;
  if (separation.kind() == Separation::Kind::softmax) return std::nullopt;
  const auto name = to_string(separation);
  const auto* kernels = device_kernels(call.input.stored.device().type());
  if (kernels == nullptr || !kernels->has_all_separations) {
    return c10::str("the fused kernels of this device do not separate by ", name);
  }
  if (call.is_pool() && separation.is_sparse()) return c10::str("the fused kernels of pool do not separate by ", name);
  if (call.is_pool())
    return c10::str("the fused kernels of pool leave out what moves all scores, which ", name, " needs");
  if (stops_per_head(call.settings)) {
    return c10::str("the rule per_head compares associations, which ", name, " goes to the composite for");
  }
  if (!separation.is_sparse()) return std::nullopt;
  if (has_implicit_gradient(call.settings) && needs_gradient(call)) {
    return c10::str("the implicit gradient of ", name, " goes through the composite");
  }
  constexpr int64_t kMostKeys = std::numeric_limits<uint32_t>::max();
  const auto keys = call.input.stored.size(call.input.offsets.defined() ? 0 : 2);
  if (keys > kMostKeys) return c10::str(keys, " stored patterns are more than the kernels of ", name, " can number");
  return std::nullopt;
}

Reason wanted_results(const OpCall& call) {
  if (call.settings.with_scores && needs_gradient(call)) return "scores are asked for that have a gradient";
  if (call.settings.with_energy && call.input.offsets.defined()) return "energies of ragged patterns are asked for";
  return std::nullopt;
}

Reason ragged_queries(const OpCall& call) {
  if (!call.input.state_offsets.defined()) return std::nullopt;
  if (!call.input.state.is_cpu()) return "ragged queries (state_offsets) go through the composite except on the CPU";
  if (!stops_per_head(call.settings)) return std::nullopt;
  return "the rule per_head compares associations, which the padding behind ragged queries would enter";
}

Reason differently_shared(const OpCall& call) {
  const auto& [stored, projection] = std::tie(call.input.stored, call.input.projection);
  if (!projection.defined()) return std::nullopt;
  const bool same =
      stored.size(1) == projection.size(1) && (call.input.offsets.defined() || stored.size(0) == projection.size(0));
  if (same) return std::nullopt;
  return c10::str("stored and projection are shared differently: ", stored.sizes(), " and ", projection.sizes());
}

Reason empty_instances(const OpCall& call) {
  if (!call.is_pool() || call.weight.size(2) > 0) return std::nullopt;
  return "instances without a single number go through the composite";
}

Reason implicit_pool(const OpCall& call) {
  if (!call.is_pool() || !has_implicit_gradient(call.settings) || !needs_gradient(call)) return std::nullopt;
  return "the implicit gradient goes through the composite";
}

using AllKernels = std::array<std::optional<DeviceKernels>, c10::COMPILE_TIME_MAX_DEVICE_TYPES>;

AllKernels& all_kernels() {
  static AllKernels kernels;
  return kernels;
}

}  // namespace

const DeviceKernels* device_kernels(c10::DeviceType device) {
  const auto& kernels = all_kernels().at(static_cast<size_t>(device));
  return kernels ? &*kernels : nullptr;
}

RegisterDeviceKernels::RegisterDeviceKernels(c10::DeviceType device, const DeviceKernels& kernels) {
  all_kernels().at(static_cast<size_t>(device)) = kernels;
}

Reason reason_against_options(const OpCall& call) {
  for (const auto predicate : {no_values, other_separation, empty_instances, gradient_of_masks, wanted_results,
                               ragged_queries, differently_shared, implicit_pool}) {
    if (auto reason = predicate(call)) return reason;
  }
  return std::nullopt;
}

Reason reason_against_fused(OpCall& call) {
  const auto device = call.input.stored.device().type();
  const auto* kernels = device_kernels(device);
  if (kernels == nullptr) return c10::str("this build has no fused kernel for ", device, " tensors");
  if (auto reason = reason_against_options(call)) return reason;
  if (auto reason = kernels->reason_against(call)) return reason;
  const auto& masks = call.input.masks;
  const bool masked =
      masks.association_mask.defined() || masks.padding_mask.defined() || masks.key_bias.defined() || masks.is_causal;
  if (!masked || !kernels->reads_hidden_patterns) return std::nullopt;
  for (const auto* added : {&masks.key_bias, &masks.association_mask}) {
    if (!masks.is_causal || !added->defined() || added->scalar_type() == at::kBool) continue;
    const bool unusable = at::isnan(*added).logical_or(at::isposinf(*added)).any().item<bool>();
    if (unusable) return "biases that are not finite may be hidden by the causal mask";
  }
  const auto clean = without_hidden_nonfinite(call.input);
  if (!clean) return "patterns that are not finite may be attended to";
  call.input = *clean;
  return std::nullopt;
}

bool chooses_fused(OpCall& call) {
  const auto backend = call.settings.backend;
  if (backend == Backend::composite) return false;
  const auto reason = reason_against_fused(call);
  TORCH_CHECK(!reason || backend != Backend::fused, call.name(),
              ": expected a call that the fused kernels serve, since backend is fused, but ", reason.value_or(""),
              "; use backend automatic");
  return !reason;
}

}  // namespace hopfield::detail
