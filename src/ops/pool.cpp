#include "ops/pool_internal.h"

#include <ATen/ATen.h>

#include <cmath>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, "hopfield::pool: ", __VA_ARGS__)

namespace hopfield {
namespace {

void check_pool(const PoolInput& input, const RetrieveSettings& settings) {
  HOPFIELD_CHECK(input.instances.defined() && input.state.defined() && input.weight.defined(),
                 "expected instances, state and weight to be given, got ",
                 !input.instances.defined() ? "no instances"
                 : !input.state.defined()   ? "no state"
                                            : "no weight");
  const bool ragged = input.offsets.defined();
  const auto& y = input.instances;
  HOPFIELD_CHECK(y.dim() == (ragged ? 2 : 3), "expected instances of shape ",
                 ragged ? "[total, d_in] together with offsets" : "[N, S, d_in]", ", got ", y.sizes());
  HOPFIELD_CHECK(at::isFloatingType(y.scalar_type()), "expected instances of a floating-point type, got ",
                 y.scalar_type());
  const auto& weight = input.weight;
  HOPFIELD_CHECK(weight.dim() == 3 && weight.size(2) == y.size(-1),
                 "expected weight of shape [H, d, d_in] with d_in = ", y.size(-1), ", got ", weight.sizes());
  const auto heads = weight.size(0), depth = weight.size(1);
  HOPFIELD_CHECK(!input.bias.defined() || input.bias.sizes() == at::IntArrayRef({heads, depth}),
                 "expected bias of shape [H, d] = [", heads, ", ", depth, "], got ", input.bias.sizes());
  const auto bags = ragged ? input.offsets.numel() - 1 : y.size(0);
  HOPFIELD_CHECK(input.state.dim() == 4 && (input.state.size(0) == bags || input.state.size(0) == 1) &&
                     input.state.size(1) == heads && input.state.size(3) == depth,
                 "expected state of shape [N or 1, H, L, d] = [", bags, ", ", heads, ", L, ", depth, "], got ",
                 input.state.sizes());
  for (const auto* tensor : {&input.state, &input.weight, &input.bias}) {
    HOPFIELD_CHECK(!tensor->defined() || (tensor->scalar_type() == y.scalar_type() && tensor->device() == y.device()),
                   "expected state, weight and bias to be of type ", y.scalar_type(), " on ", y.device(),
                   " like instances, got ", tensor->scalar_type(), " on ", tensor->device());
  }
  HOPFIELD_CHECK(!input.normalize_eps || (std::isfinite(*input.normalize_eps) && *input.normalize_eps >= 0),
                 "expected normalize_eps to be finite and not negative, got ", input.normalize_eps.value_or(0));
  HOPFIELD_CHECK(!settings.with_energy,
                 "expected no energy to be asked for: it needs the keys' norms; use retrieve on projected patterns");
  // Masks, offsets, beta and the iteration are retrieve's: a call of its shapes has them checked.
  RetrieveInput shapes = detail::as_retrieve_input(input);
  const auto probe = at::empty({1}, y.options().requires_grad(false));
  shapes.stored = ragged ? probe.expand({y.size(0), 1, depth}) : probe.expand({y.size(0), 1, y.size(1), depth});
  shapes.padding_mask = input.padding_mask;
  shapes.key_bias = input.key_bias;
  detail::check_retrieve(shapes, settings);
}

std::optional<std::string> reason_against(const PoolInput& input, const RetrieveSettings& settings) {
  auto call = detail::as_retrieve_input(input);
  for (const auto* tensor : {&input.weight, &input.bias}) {
    if (!tensor->defined()) continue;
    if (detail::is_traced(*tensor)) return "the tensors are being traced or transformed (meta, vmap, compile)";
    // Whoever asks for a gradient, the same gradient modes can serve.
    if (tensor->requires_grad()) call.state = call.state.detach().requires_grad_(true);
  }
  return detail::reason_against_fusing(call, settings);
}

}  // namespace

namespace detail {

RetrieveInput as_retrieve_input(const PoolInput& input) {
  RetrieveInput call;
  const bool ragged = input.offsets.defined();
  const auto bags = ragged ? input.offsets.numel() - 1 : input.instances.size(0);
  call.state = input.state.expand({bags, -1, -1, -1});
  call.stored = input.instances.unsqueeze(1);
  call.offsets = input.offsets;
  call.association_mask = input.association_mask;
  call.padding_mask = input.padding_mask;
  call.key_bias = input.key_bias;
  if (!ragged) {
    for (auto* keys : {&call.padding_mask, &call.key_bias}) {
      if (keys->defined() && keys->dim() == 2) *keys = keys->unsqueeze(1).unsqueeze(1);
    }
  }
  return call;
}

}  // namespace detail

PoolResult pool(const PoolInput& input, const RetrieveOptions& options) {
  const auto& settings = options.settings();
  check_pool(input, settings);
  std::optional<std::string> reason;
  if (settings.backend != Backend::composite) reason = reason_against(input, settings);
  HOPFIELD_CHECK(!reason || settings.backend != Backend::fused,
                 "expected a call that the fused kernels serve, since backend is fused, but ", reason.value_or(""),
                 "; use backend automatic");
  auto call = input;
  const bool masked = input.padding_mask.defined() || input.key_bias.defined() || input.association_mask.defined();
  if (masked && !detail::is_traced(input.instances)) {
    // Their keys would pass NaN on to the gradient of the weight.
    if (const auto clean = detail::without_hidden_nonfinite(detail::as_retrieve_input(input))) {
      call.instances = clean->stored.squeeze(1);
    }
  }
  const auto seed = settings.dropout > 0 ? detail::draw_seed(settings.generator) : 0;
  const bool fused = settings.backend != Backend::composite && !reason;
  return fused ? detail::pool_cpu(call, settings, seed) : detail::pool_composite(call, settings, seed);
}

std::optional<std::string> why_not_fused(const PoolInput& input, const RetrieveOptions& options) {
  check_pool(input, options.settings());
  return reason_against(input, options.settings());
}

}  // namespace hopfield
