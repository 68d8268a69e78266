#include "ops/call_tensors.h"
#include "ops/retrieve_passes.h"

#include <ATen/ATen.h>

#include <cmath>
#include <tuple>

namespace hopfield::detail {
namespace {

struct FusedCall {
  const RetrieveInput& input;
  const RetrieveSettings& settings;

  bool needs_gradient() const {
    return at::GradMode::is_enabled() && (wants_gradient(input.state) || wants_gradient(input.stored) ||
                                          wants_gradient(input.projection) || wants_gradient(settings.beta));
  }
  bool is_masked() const {
    return input.masks.association_mask.defined() || input.masks.padding_mask.defined() ||
           input.masks.key_bias.defined();
  }
};

using Reason = std::optional<std::string>;

Reason transformed(const FusedCall& call) { return reason_against_tensors(call.input, call.settings); }

Reason no_kernel_for_type(const FusedCall& call) {
  const auto type = call.input.state.scalar_type();
  if (type == at::kFloat || type == at::kBFloat16) return std::nullopt;
  return c10::str("the fused kernels of the CPU take float32 and bfloat16, not ", type);
}

Reason gradient_of_masks(const FusedCall& call) {
  for (const auto* tensor : {&call.input.masks.association_mask, &call.input.masks.key_bias}) {
    if (at::GradMode::is_enabled() && wants_gradient(*tensor)) {
      return "a mask or key bias asks for a gradient";
    }
  }
  return std::nullopt;
}

Reason wanted_results(const FusedCall& call) {
  if (call.settings.with_scores && call.needs_gradient()) return "scores are asked for that have a gradient";
  if (call.settings.with_energy && call.input.offsets.defined()) return "energies of ragged patterns are asked for";
  return std::nullopt;
}

Reason ragged_queries(const FusedCall& call) {
  if (!call.input.state_offsets.defined()) return std::nullopt;
  if (!call.input.state.is_cpu()) return "ragged queries (state_offsets) go through the composite except on the CPU";
  if (call.settings.stop_rule != StopRule::per_head || !makes_updates(call.settings)) return std::nullopt;
  return "the rule per_head compares associations, which the padding behind ragged queries would enter";
}

Reason differently_shared(const FusedCall& call) {
  const auto& [stored, projection] = std::tie(call.input.stored, call.input.projection);
  if (!projection.defined()) return std::nullopt;
  const bool same =
      stored.size(1) == projection.size(1) && (call.input.offsets.defined() || stored.size(0) == projection.size(0));
  if (same) return std::nullopt;
  return c10::str("stored and projection are shared differently: ", stored.sizes(), " and ", projection.sizes());
}

bool all_finite(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.numel() == 0) return true;
  const auto [least, most] = at::aminmax(tensor.detach());
  return std::isfinite(least.item<double>()) && std::isfinite(most.item<double>());
}

/// [N or 1, H or 1, L or 1, S], ragged [total, 1], true where nothing may attend; undefined: everything may.
at::Tensor excluded_keys(const RetrieveInput& input) {
  at::Tensor excluded = input.masks.padding_mask;
  const auto add = [&](const at::Tensor& more) { excluded = excluded.defined() ? excluded.bitwise_or(more) : more; };
  if (const auto& bias = input.masks.key_bias; bias.defined()) {
    const auto infinite = at::isneginf(bias.detach());
    add(input.offsets.defined() ? infinite.unsqueeze(-1) : infinite);
  }
  if (const auto& mask = input.masks.association_mask; mask.defined()) {
    add(mask.scalar_type() == at::kBool ? mask : at::isneginf(mask.detach()));
  }
  return excluded;
}

}  // namespace

namespace {
PassesOfDevices<RetrievePasses>& all_passes() {
  static PassesOfDevices<RetrievePasses> passes;
  return passes;
}
}  // namespace

const RetrievePasses* retrieve_passes(c10::DeviceType device) { return all_passes().find(device); }

RegisterRetrievePasses::RegisterRetrievePasses(c10::DeviceType device, const RetrievePasses& passes) {
  all_passes().set(device, passes);
}

Reason reason_against_options(const RetrieveInput& input, const RetrieveSettings& settings) {
  const FusedCall call{input, settings};
  for (const auto predicate : {transformed, gradient_of_masks, wanted_results, ragged_queries, differently_shared}) {
    if (auto reason = predicate(call)) return reason;
  }
  return std::nullopt;
}

Reason reason_against_cpu(RetrieveInput& input, const RetrieveSettings& settings) {
  const FusedCall call{input, settings};
  if (auto reason = no_kernel_for_type(call)) return reason;
  if (!call.is_masked()) return std::nullopt;
  const auto clean = without_hidden_nonfinite(input);
  if (!clean) return "patterns that are not finite may be attended to";
  input = *clean;
  return std::nullopt;
}

Reason reason_against_retrieving(RetrieveInput& input, const RetrieveSettings& settings) {
  const auto device = input.state.device().type();
  const auto* passes = retrieve_passes(device);
  if (passes == nullptr) return c10::str("this build has no fused kernel for ", device, " tensors");
  if (auto reason = reason_against_options(input, settings)) return reason;
  return passes->reason_against(input, settings);
}

std::optional<RetrieveInput> without_hidden_nonfinite(RetrieveInput input) {
  for (auto* patterns : {&input.stored, &input.projection}) {
    if (all_finite(*patterns)) continue;
    const auto spoilt = at::isfinite(patterns->detach()).all(-1).bitwise_not();  // [N or 1, H or 1, S], [total, H or 1]
    const auto excluded = excluded_keys(input);
    const auto seen = input.offsets.defined() ? spoilt : spoilt.unsqueeze(2);
    if (!excluded.defined() || seen.bitwise_and(excluded.bitwise_not()).any().item<bool>()) return std::nullopt;
    *patterns = patterns->masked_fill(spoilt.unsqueeze(-1), 0.0);
  }
  return input;
}

RetrieveInput with_hidden_nonfinite_zeroed(RetrieveInput input) {
  auto hidden = excluded_keys(input);
  if (!hidden.defined()) return input;
  if (!input.offsets.defined()) {
    hidden = hidden.all(2);  // [N or 1, H or 1, S]
    for (const int64_t dimension : {0, 1}) {
      if (input.stored.sym_size(dimension) == 1) hidden = hidden.all(dimension, /*keepdim=*/true);
    }
  }
  const auto spoilt =
      at::isfinite(input.stored.detach()).all(-1).bitwise_not();  // [N or 1, H or 1, S], [total, H or 1]
  input.stored = input.stored.masked_fill(spoilt.bitwise_and(hidden).unsqueeze(-1), 0.0);
  return input;
}

}  // namespace hopfield::detail
