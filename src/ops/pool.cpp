#include "ops/cpu_passes.h"
#include "ops/op_arguments.h"
#include "ops/op_stages.h"
#include "ops/pool_passes.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <cmath>
#include <string>
#include <tuple>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, "hopfield::pool: ", __VA_ARGS__)

namespace hopfield {
namespace {

using detail::given;
using detail::OptionalTensor;
using detail::or_undefined;
using detail::Stage;

// The dispatcher's view of the op: PoolInput, RetrieveSettings and PoolResult, member by member.
const std::string kArguments = c10::str("Tensor instances, Tensor state, Tensor weight, Tensor? bias=None, *, ",
                                        detail::kMasksSchema, ", Tensor? offsets=None, float? normalize_eps=None, ",
                                        detail::kSettingsSchema, ", bool with_scores=False, Tensor? seed=None");
constexpr auto kResults =
    "Tensor output, Tensor state, Tensor logsumexp, Tensor steps, Tensor residual, Tensor converged, "
    "Tensor mass, Tensor scores";

using Outputs =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Signature = Outputs(const at::Tensor&, const at::Tensor&, const at::Tensor&, const OptionalTensor&,
                          const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, bool,
                          const OptionalTensor&, std::optional<double>, const OptionalTensor&, at::IntArrayRef,
                          at::ArrayRef<double>, int64_t, c10::string_view, c10::string_view, int64_t, c10::string_view,
                          double, const std::optional<at::Generator>&, bool, const OptionalTensor&);

const auto& op_handle() {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("hopfield::pool", "").typed<Signature>();
  return op;
}

/// What the op's schema cannot express.
void check_expressible(const PoolInput& input, const RetrieveSettings& settings) {
  HOPFIELD_CHECK(input.instances.defined() && input.state.defined() && input.weight.defined(),
                 "expected instances, state and weight to be given, got ",
                 !input.instances.defined() ? "no instances"
                 : !input.state.defined()   ? "no state"
                                            : "no weight");
  HOPFIELD_CHECK(!settings.with_energy,
                 "expected no energy to be asked for: it needs the keys' norms; use retrieve on projected patterns");
}

void check_pool(const PoolInput& input, const RetrieveSettings& settings) {
  detail::check_layouts("hopfield::pool", {{"instances", &input.instances},
                                           {"state", &input.state},
                                           {"weight", &input.weight},
                                           {"bias", &input.bias},
                                           {"association_mask", &input.masks.association_mask},
                                           {"padding_mask", &input.masks.padding_mask},
                                           {"key_bias", &input.masks.key_bias},
                                           {"offsets", &input.offsets},
                                           {"beta", &settings.beta}});
  const bool ragged = input.offsets.defined();
  const auto& y = input.instances;
  HOPFIELD_CHECK(y.dim() == (ragged ? 2 : 3), "expected instances of shape ",
                 ragged ? "[total, d_in] together with offsets" : "[N, S, d_in]", ", got ", y.sym_sizes());
  HOPFIELD_CHECK(at::isFloatingType(y.scalar_type()), "expected instances of a floating-point type, got ",
                 y.scalar_type());
  const auto& weight = input.weight;
  HOPFIELD_CHECK(weight.dim() == 3 && weight.sym_size(2) == y.sym_size(-1),
                 "expected weight of shape [H, d, d_in] with d_in = ", y.sym_size(-1), ", got ", weight.sym_sizes());
  const auto heads = weight.sym_size(0), depth = weight.sym_size(1);
  HOPFIELD_CHECK(!input.bias.defined() ||
                     (input.bias.dim() == 2 && input.bias.sym_size(0) == heads && input.bias.sym_size(1) == depth),
                 "expected bias of shape [H, d] = [", heads, ", ", depth, "], got ", input.bias.sym_sizes());
  const auto bags = ragged ? input.offsets.sym_numel() - 1 : y.sym_size(0);
  HOPFIELD_CHECK(input.state.dim() == 4 && (input.state.sym_size(0) == 1 || input.state.sym_size(0) == bags) &&
                     input.state.sym_size(1) == heads && input.state.sym_size(3) == depth,
                 "expected state of shape [N or 1, H, L, d] = [", bags, ", ", heads, ", L, ", depth, "], got ",
                 input.state.sym_sizes());
  for (const auto* tensor : {&input.state, &input.weight, &input.bias}) {
    HOPFIELD_CHECK(!tensor->defined() || (tensor->scalar_type() == y.scalar_type() && tensor->device() == y.device()),
                   "expected state, weight and bias to be of type ", y.scalar_type(), " on ", y.device(),
                   " like instances, got ", tensor->scalar_type(), " on ", tensor->device());
  }
  HOPFIELD_CHECK(!input.normalize_eps || (std::isfinite(*input.normalize_eps) && *input.normalize_eps >= 0),
                 "expected normalize_eps to be finite and not negative, got ", input.normalize_eps.value_or(0));
  // Masks, offsets, beta and the iteration are retrieve's.
  RetrieveInput call;
  call.state = input.state;
  call.offsets = input.offsets;
  call.masks = input.masks;
  const auto keys = y.sym_size(ragged ? 0 : 1);
  detail::check_beyond_patterns(call, settings,
                                {"hopfield::pool", 4, bags, heads, input.state.sym_size(2), keys, depth, ragged});
}

/// One sentence against the fused kernels; or nothing, and then instances that nothing may attend to are finite.
std::optional<std::string> reason_against(PoolInput& input, const RetrieveSettings& settings) {
  auto call = detail::as_retrieve_input(input);
  if (auto reason = detail::reason_against_tensors(input, settings)) return reason;
  // Whoever asks for a gradient, scores have none.
  if (detail::wants_gradient(input.weight) || detail::wants_gradient(input.bias)) {
    call.state = call.state.detach().requires_grad_(true);
  }
  if (input.weight.size(2) == 0) return "instances without a single number go through the composite";
  const auto device = input.instances.device().type();
  const auto* passes = detail::pool_passes(device);
  if (passes == nullptr) return c10::str("this build has no fused kernel for ", device, " tensors");
  if (auto reason = passes->reason_against(input, settings)) return reason;
  if (auto reason = detail::reason_against_options(call, settings)) return reason;
  if (settings.gradient.kind() == Gradient::Kind::implicit && detail::makes_updates(settings) &&
      detail::any_needs_gradient({call.state, call.stored, settings.beta})) {
    return "the implicit gradient goes through the composite";
  }
  // The kernels of other devices leave excluded instances out by themselves, and their values are not looked at here:
  // that would wait for the device.
  if (!input.instances.is_cpu()) return std::nullopt;
  auto reason = detail::reason_against_cpu(call, settings);
  if (!reason) input.instances = call.stored.squeeze(1);
  return reason;
}

/// Checks, chooses, calls.
PoolResult run(const PoolInput& input, RetrieveSettings settings, const OptionalTensor& given_seed) {
  check_pool(input, settings);
  settings.beta = detail::beta_on(input.instances.device(), settings.beta);
  auto call = input;
  std::optional<std::string> reason;
  if (settings.backend != Backend::composite) reason = reason_against(call, settings);
  HOPFIELD_CHECK(!reason || settings.backend != Backend::fused,
                 "expected a call that the fused kernels serve, since backend is fused, but ", reason.value_or(""),
                 "; use backend automatic");
  const auto seed = detail::dropout_seed("hopfield::pool", settings, given_seed);
  if (settings.backend != Backend::composite && !reason) {
    call.offsets = detail::offsets_on(call.instances.device(), call.offsets);
    return detail::pool_fused(call, settings, seed);
  }
  return detail::pool_composite(call, settings, seed);
}

Outputs as_outputs(const PoolResult& r) {
  return {r.output, r.state, r.logsumexp, r.steps, r.residual, r.converged, r.mass, r.scores};
}

template <Stage stage>
Outputs pool_kernel(const at::Tensor& instances, const at::Tensor& state, const at::Tensor& weight,
                    const OptionalTensor& bias, const OptionalTensor& padding_mask,
                    const OptionalTensor& association_mask, const OptionalTensor& key_bias, bool is_causal,
                    const OptionalTensor& offsets, std::optional<double> normalize_eps, const OptionalTensor& beta,
                    at::IntArrayRef update_steps_max, at::ArrayRef<double> update_steps_eps, int64_t update_steps_cap,
                    c10::string_view stop_rule, c10::string_view gradient, int64_t gradient_steps,
                    c10::string_view backend, double dropout, const std::optional<at::Generator>& generator,
                    bool with_scores, const OptionalTensor& seed) {
  const PoolInput input{state,
                        instances,
                        weight,
                        or_undefined(bias),
                        {or_undefined(padding_mask), or_undefined(association_mask), or_undefined(key_bias), is_causal},
                        or_undefined(offsets),
                        normalize_eps};
  auto settings =
      detail::read_settings("hopfield::pool", {beta, update_steps_max, update_steps_eps, update_steps_cap, stop_rule,
                                               gradient, gradient_steps, backend, dropout, generator});
  settings.with_scores = with_scores;
  if constexpr (stage == Stage::autograd) {
    if (!detail::is_recorded_call(input, settings)) return as_outputs(run(input, settings, seed));
    const auto on_device = [&](const OptionalTensor& tensor) { return detail::recorded_on(state.device(), tensor); };
    return detail::record<Outputs>(op_handle(), instances, state, weight, bias, padding_mask, association_mask,
                                   key_bias, is_causal, on_device(offsets), normalize_eps, on_device(beta),
                                   update_steps_max, update_steps_eps, update_steps_cap, stop_rule, gradient,
                                   gradient_steps, backend, dropout, generator, with_scores, seed);
  } else if constexpr (stage == Stage::backend) {
    const at::NoGradGuard no_grad;
    auto r = run(input, settings, seed);
    detail::make_regular(r);
    return as_outputs(r);
  } else {
    check_pool(input, settings);
    return as_outputs(detail::pool_shapes(input, settings));
  }
}

TORCH_LIBRARY_FRAGMENT(hopfield, library) { detail::define_op(library, "pool", kArguments, kResults); }
TORCH_LIBRARY_IMPL(hopfield, Autograd, library) { library.impl("pool", pool_kernel<Stage::autograd>); }
TORCH_LIBRARY_IMPL(hopfield, FuncTorchBatched, library) { library.impl("pool", pool_kernel<Stage::autograd>); }
TORCH_LIBRARY_IMPL(hopfield, CompositeExplicitAutograd, library) { library.impl("pool", pool_kernel<Stage::backend>); }
TORCH_LIBRARY_IMPL(hopfield, Meta, library) { library.impl("pool", pool_kernel<Stage::meta>); }

}  // namespace

namespace detail {

RetrieveInput as_retrieve_input(const PoolInput& input) {
  RetrieveInput call;
  const bool ragged = input.offsets.defined();
  const auto bags = ragged ? input.offsets.sym_numel() - 1 : input.instances.sym_size(0);
  call.state = input.state.expand_symint({bags, -1, -1, -1});
  call.stored = input.instances.unsqueeze(1);
  call.offsets = input.offsets;
  call.masks = input.masks;
  if (auto& mask = call.masks.association_mask; mask.defined() && mask.dim() == 2)
    mask = mask.unsqueeze(0).unsqueeze(0);
  if (!ragged) {
    for (auto* keys : {&call.masks.padding_mask, &call.masks.key_bias}) {
      if (keys->defined() && keys->dim() == 2) *keys = keys->unsqueeze(1).unsqueeze(1);
    }
  }
  return call;
}

}  // namespace detail

PoolResult pool(const PoolInput& input, const RetrieveOptions& options) {
  check_expressible(input, options.settings());
  const auto s = detail::write_settings(options.settings());
  PoolResult r;
  std::tie(r.output, r.state, r.logsumexp, r.steps, r.residual, r.converged, r.mass, r.scores) = op_handle().call(
      input.instances, input.state, input.weight, given(input.bias), given(input.masks.padding_mask),
      given(input.masks.association_mask), given(input.masks.key_bias), input.masks.is_causal, given(input.offsets),
      input.normalize_eps, s.beta, s.update_steps_max, s.update_steps_eps, s.update_steps_cap, s.stop_rule, s.gradient,
      s.gradient_steps, s.backend, s.dropout, s.generator, options.settings().with_scores, std::nullopt);
  return r;
}

std::optional<std::string> why_not_fused(const PoolInput& input, const RetrieveOptions& options) {
  check_expressible(input, options.settings());
  check_pool(input, options.settings());
  auto call = input;
  return reason_against(call, options.settings());
}

std::string describe_backend(const PoolInput& input, const RetrieveOptions& options) {
  const auto reason =
      options.settings().backend == Backend::composite ? "the options ask for them" : why_not_fused(input, options);
  if (reason) return c10::str("LibTorch operations: ", *reason);
  return detail::pool_passes(input.instances.device().type())->describe(input, options.settings());
}

}  // namespace hopfield
