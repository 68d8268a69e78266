#include "ops/retrieve_internal.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <string>
#include <tuple>

namespace hopfield {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

// The dispatcher's view of the op: RetrieveInput, RetrieveSettings and RetrieveResult, member by member. Calls from C++
// and from Python (torch.ops.hopfield.retrieve) meet here.
constexpr auto kSchema =
    "retrieve(Tensor state, Tensor stored, Tensor? projection=None, *, Tensor? offsets=None, "
    "Tensor? association_mask=None, Tensor? padding_mask=None, Tensor? key_bias=None, Tensor? beta=None, "
    "int[1] update_steps_max=0, float[1] update_steps_eps=0.0001, int update_steps_cap=256, "
    "str stop_rule=\"per_query\", str gradient=\"unrolled\", int gradient_steps=1, str backend=\"automatic\", "
    "float dropout=0., Generator? generator=None, bool with_energy=False, bool with_scores=False) -> "
    "(Tensor output, Tensor final_state, Tensor logsumexp, Tensor steps, Tensor residual, Tensor converged, "
    "Tensor energy, Tensor scores)";

using Outputs =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Signature = Outputs(const at::Tensor&, const at::Tensor&, const OptionalTensor&, const OptionalTensor&,
                          const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
                          at::IntArrayRef, at::ArrayRef<double>, int64_t, c10::string_view, c10::string_view, int64_t,
                          c10::string_view, double, const std::optional<at::Generator>&, bool, bool);

StopRule parse_stop_rule(c10::string_view name) {
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    if (name == to_string(rule)) return rule;
  }
  TORCH_CHECK(false, "hopfield::retrieve: expected stop_rule to be per_query or per_head, got ", name);
}

Backend parse_backend(c10::string_view name) {
  for (const auto backend : {Backend::automatic, Backend::composite, Backend::fused}) {
    if (name == to_string(backend)) return backend;
  }
  TORCH_CHECK(false, "hopfield::retrieve: expected backend to be automatic, composite or fused, got ", name);
}

const char* gradient_name(const Gradient& gradient) {
  switch (gradient.kind()) {
    case Gradient::Kind::unrolled:
      return "unrolled";
    case Gradient::Kind::last:
      return "last";
    case Gradient::Kind::implicit:
      return "implicit";
  }
  return "unknown";
}

Gradient parse_gradient(c10::string_view name, int64_t steps) {
  for (const auto& gradient : {Gradient::unrolled(), Gradient::last(steps), Gradient::implicit()}) {
    if (name == gradient_name(gradient)) return gradient;
  }
  TORCH_CHECK(false, "hopfield::retrieve: expected gradient to be unrolled, last or implicit, got ", name);
}

/// Checks, chooses, calls.
RetrieveResult run(const RetrieveInput& input, const RetrieveSettings& settings) {
  detail::check_retrieve(input, settings);
  const auto complete = detail::with_all_dimensions(input);
  std::optional<std::string> reason;
  if (settings.backend != Backend::composite) reason = detail::reason_against_fusing(complete, settings);
  TORCH_CHECK(!reason || settings.backend != Backend::fused,
              "hopfield::retrieve: expected a call that the fused kernels serve, since backend is fused, but ",
              reason.value_or(""), "; use backend automatic");
  const auto seed = settings.dropout > 0 ? detail::draw_seed(settings.generator) : 0;
  const bool fused = settings.backend != Backend::composite && !reason;
  auto result =
      fused ? detail::retrieve_cpu(complete, settings, seed) : detail::retrieve_composite(complete, settings, seed);
  return detail::without_added_dimensions(std::move(result), input.state.dim(), input.offsets.defined());
}

Outputs retrieve_kernel(const at::Tensor& state, const at::Tensor& stored, const OptionalTensor& projection,
                        const OptionalTensor& offsets, const OptionalTensor& association_mask,
                        const OptionalTensor& padding_mask, const OptionalTensor& key_bias, const OptionalTensor& beta,
                        at::IntArrayRef update_steps_max, at::ArrayRef<double> update_steps_eps,
                        int64_t update_steps_cap, c10::string_view stop_rule, c10::string_view gradient,
                        int64_t gradient_steps, c10::string_view backend, double dropout,
                        const std::optional<at::Generator>& generator, bool with_energy, bool with_scores) {
  const auto value = [](const OptionalTensor& tensor) { return tensor.value_or(at::Tensor()); };
  RetrieveSettings settings;
  settings.update_steps_max = update_steps_max.vec();
  settings.update_steps_eps = update_steps_eps.vec();
  settings.update_steps_cap = update_steps_cap;
  settings.stop_rule = parse_stop_rule(stop_rule);
  settings.gradient = parse_gradient(gradient, gradient_steps);
  settings.backend = parse_backend(backend);
  settings.beta = value(beta);
  settings.dropout = dropout;
  settings.generator = generator.value_or(at::Generator());
  settings.with_energy = with_energy;
  settings.with_scores = with_scores;
  const auto r = run(
      {state, stored, value(projection), value(offsets), value(association_mask), value(padding_mask), value(key_bias)},
      settings);
  return {r.output, r.state, r.logsumexp, r.steps, r.residual, r.converged, r.energy, r.scores};
}

TORCH_LIBRARY(hopfield, library) { library.def(kSchema); }
TORCH_LIBRARY_IMPL(hopfield, CompositeImplicitAutograd, library) { library.impl("retrieve", retrieve_kernel); }

}  // namespace

RetrieveOptions& RetrieveOptions::beta(const PerHead<double>& value) {
  const auto& values = value.values();
  settings_.beta = at::tensor(values, at::kDouble);
  if (values.size() == 1) settings_.beta = settings_.beta[0];
  return *this;
}

RetrieveResult retrieve(const RetrieveInput& input, const RetrieveOptions& options) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("hopfield::retrieve", "").typed<Signature>();
  const auto optional = [](const at::Tensor& tensor) {
    return tensor.defined() ? OptionalTensor(tensor) : OptionalTensor();
  };
  TORCH_CHECK(input.state.defined() && input.stored.defined(),
              "hopfield::retrieve: expected state and stored to be given, got ",
              input.state.defined() ? "no stored" : "no state");
  const auto& s = options.settings();
  RetrieveResult r;
  std::tie(r.output, r.state, r.logsumexp, r.steps, r.residual, r.converged, r.energy, r.scores) = op.call(
      input.state, input.stored, optional(input.projection), optional(input.offsets), optional(input.association_mask),
      optional(input.padding_mask), optional(input.key_bias), optional(s.beta), s.update_steps_max.values(),
      s.update_steps_eps.values(), s.update_steps_cap, to_string(s.stop_rule), gradient_name(s.gradient),
      s.gradient.steps(), to_string(s.backend), s.dropout,
      s.generator.defined() ? std::optional<at::Generator>(s.generator) : std::nullopt, s.with_energy, s.with_scores);
  return r;
}

RetrieveResult retrieve(const at::Tensor& state, const at::Tensor& stored, const RetrieveOptions& options) {
  return retrieve(RetrieveInput{state, stored, {}, {}, {}, {}, {}}, options);
}

std::optional<std::string> why_not_fused(const RetrieveInput& input, const RetrieveOptions& options) {
  detail::check_retrieve(input, options.settings());
  return detail::reason_against_fusing(detail::with_all_dimensions(input), options.settings());
}

void register_ops() {}  // Calling it is enough: the linker then keeps this library, and loading it registers the ops.

}  // namespace hopfield
