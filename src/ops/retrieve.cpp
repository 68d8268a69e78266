#include "ops/op_arguments.h"
#include "ops/op_stages.h"
#include "ops/ragged_queries.h"
#include "ops/retrieve_attention.h"
#include "ops/retrieve_passes.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <string>
#include <tuple>

namespace hopfield {
namespace {

using detail::given;
using detail::OptionalTensor;
using detail::or_undefined;
using detail::Stage;

// The dispatcher's view of the op: RetrieveInput, RetrieveSettings and RetrieveResult, member by member. Calls from C++
// and from Python (torch.ops.hopfield.retrieve) meet here.
const std::string kArguments =
    c10::str("Tensor state, Tensor stored, Tensor? projection=None, *, ", detail::kMasksSchema,
             ", Tensor? offsets=None, Tensor? state_offsets=None, ", detail::kSettingsSchema,
             ", bool with_energy=False, bool with_scores=False, Tensor? seed=None");
constexpr auto kResults =
    "Tensor output, Tensor state, Tensor logsumexp, Tensor steps, Tensor residual, Tensor converged, "
    "Tensor energy, Tensor scores";

using Outputs =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Signature = Outputs(const at::Tensor&, const at::Tensor&, const OptionalTensor&, const OptionalTensor&,
                          const OptionalTensor&, const OptionalTensor&, bool, const OptionalTensor&,
                          const OptionalTensor&, const OptionalTensor&, at::IntArrayRef, at::ArrayRef<double>, int64_t,
                          c10::string_view, c10::string_view, int64_t, c10::string_view, double,
                          const std::optional<at::Generator>&, bool, bool, const OptionalTensor&);

const auto& op_handle() {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("hopfield::retrieve", "").typed<Signature>();
  return op;
}

/// Checks, chooses, calls.
RetrieveResult run(const RetrieveInput& input, RetrieveSettings settings, const OptionalTensor& given_seed) {
  detail::check_retrieve(input, settings);
  const auto padded = detail::with_padded_queries(input);
  const auto dimensions = padded.state.dim();
  auto complete = detail::with_all_dimensions(padded);
  if (settings.backend == Backend::automatic && !detail::reason_against_attention(complete, settings)) {
    return detail::without_added_dimensions(detail::retrieve_attention(complete, settings), dimensions, false);
  }
  settings.beta = detail::beta_on(input.state.device(), settings.beta);
  std::optional<std::string> reason;
  if (settings.backend != Backend::composite) reason = detail::reason_against_retrieving(complete, settings);
  TORCH_CHECK(!reason || settings.backend != Backend::fused,
              "hopfield::retrieve: expected a call that the fused kernels serve, since backend is fused, but ",
              reason.value_or(""), "; use backend automatic");
  const auto seed = detail::dropout_seed("hopfield::retrieve", settings, given_seed);
  const bool fused = settings.backend != Backend::composite && !reason;
  if (fused) complete.offsets = detail::offsets_on(input.state.device(), complete.offsets);
  auto result =
      fused ? detail::retrieve_fused(complete, settings, seed) : detail::retrieve_composite(complete, settings, seed);
  return detail::with_ragged_queries(
      detail::without_added_dimensions(std::move(result), dimensions, input.offsets.defined()), input.state_offsets);
}

Outputs as_outputs(const RetrieveResult& r) {
  return {r.output, r.state, r.logsumexp, r.steps, r.residual, r.converged, r.energy, r.scores};
}

template <Stage stage>
Outputs retrieve_kernel(const at::Tensor& state, const at::Tensor& stored, const OptionalTensor& projection,
                        const OptionalTensor& padding_mask, const OptionalTensor& association_mask,
                        const OptionalTensor& key_bias, bool is_causal, const OptionalTensor& offsets,
                        const OptionalTensor& state_offsets, const OptionalTensor& beta,
                        at::IntArrayRef update_steps_max, at::ArrayRef<double> update_steps_eps,
                        int64_t update_steps_cap, c10::string_view stop_rule, c10::string_view gradient,
                        int64_t gradient_steps, c10::string_view backend, double dropout,
                        const std::optional<at::Generator>& generator, bool with_energy, bool with_scores,
                        const OptionalTensor& seed) {
  const RetrieveInput input{
      state,
      stored,
      or_undefined(projection),
      {or_undefined(padding_mask), or_undefined(association_mask), or_undefined(key_bias), is_causal},
      or_undefined(offsets),
      or_undefined(state_offsets)};
  auto settings =
      detail::read_settings("hopfield::retrieve", {beta, update_steps_max, update_steps_eps, update_steps_cap,
                                                   stop_rule, gradient, gradient_steps, backend, dropout, generator});
  settings.with_energy = with_energy;
  settings.with_scores = with_scores;
  if constexpr (stage == Stage::autograd) {
    if (!detail::is_recorded_call(input, settings)) return as_outputs(run(input, settings, seed));
    const auto on_device = [&](const OptionalTensor& tensor) { return detail::recorded_on(state.device(), tensor); };
    return detail::record<Outputs>(op_handle(), state, stored, projection, padding_mask, association_mask, key_bias,
                                   is_causal, on_device(offsets), on_device(state_offsets), on_device(beta),
                                   update_steps_max, update_steps_eps, update_steps_cap, stop_rule, gradient,
                                   gradient_steps, backend, dropout, generator, with_energy, with_scores, seed);
  } else if constexpr (stage == Stage::backend) {
    const at::NoGradGuard no_grad;
    auto r = run(input, settings, seed);
    detail::make_regular(r);
    return as_outputs(r);
  } else {
    detail::check_retrieve(input, settings);
    return as_outputs(detail::retrieve_shapes(input, settings));
  }
}

TORCH_LIBRARY(hopfield, library) { detail::define_op(library, "retrieve", kArguments, kResults); }
TORCH_LIBRARY_IMPL(hopfield, Autograd, library) { library.impl("retrieve", retrieve_kernel<Stage::autograd>); }
TORCH_LIBRARY_IMPL(hopfield, FuncTorchBatched, library) { library.impl("retrieve", retrieve_kernel<Stage::autograd>); }
TORCH_LIBRARY_IMPL(hopfield, CompositeExplicitAutograd, library) {
  library.impl("retrieve", retrieve_kernel<Stage::backend>);
}
TORCH_LIBRARY_IMPL(hopfield, Meta, library) { library.impl("retrieve", retrieve_kernel<Stage::meta>); }

}  // namespace

RetrieveOptions& RetrieveOptions::beta(const PerHead<double>& value) {
  const auto& values = value.values();
  settings_.beta = at::tensor(values, at::kDouble);
  if (values.size() == 1) settings_.beta = settings_.beta[0];
  return *this;
}

RetrieveResult retrieve(const RetrieveInput& input, const RetrieveOptions& options) {
  TORCH_CHECK(input.state.defined() && input.stored.defined(),
              "hopfield::retrieve: expected state and stored to be given, got ",
              input.state.defined() ? "no stored" : "no state");
  const auto s = detail::write_settings(options.settings());
  RetrieveResult r;
  std::tie(r.output, r.state, r.logsumexp, r.steps, r.residual, r.converged, r.energy, r.scores) =
      op_handle().call(input.state, input.stored, given(input.projection), given(input.masks.padding_mask),
                       given(input.masks.association_mask), given(input.masks.key_bias), input.masks.is_causal,
                       given(input.offsets), given(input.state_offsets), s.beta, s.update_steps_max, s.update_steps_eps,
                       s.update_steps_cap, s.stop_rule, s.gradient, s.gradient_steps, s.backend, s.dropout, s.generator,
                       options.settings().with_energy, options.settings().with_scores, std::nullopt);
  return r;
}

RetrieveResult retrieve(const at::Tensor& state, const at::Tensor& stored, const RetrieveOptions& options) {
  return retrieve(RetrieveInput{state, stored}, options);
}

std::optional<std::string> why_not_fused(const RetrieveInput& input, const RetrieveOptions& options) {
  detail::check_retrieve(input, options.settings());
  auto complete = detail::with_all_dimensions(detail::with_padded_queries(input));
  return detail::reason_against_retrieving(complete, options.settings());
}

void register_ops() {}  // Calling it is enough: the linker then keeps this library, and loading it registers the ops.

}  // namespace hopfield
