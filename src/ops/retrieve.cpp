#include "ops/device_kernels.h"
#include "ops/dispatched_op.h"
#include "ops/retrieve_attention.h"
#include "ops/retrieve_internal.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>

namespace hopfield {
namespace {

using detail::OpCall;

/// The dispatcher's op `hopfield::retrieve`. Calls from C++ and from Python meet here.
struct RetrieveOp {
  using Input = RetrieveInput;
  using Result = RetrieveResult;
  static constexpr auto name = "retrieve";
  static constexpr size_t positional = 3;

  static auto arguments() {
    using All = detail::OpArguments<Input>;
    const auto argument = [](const char* declaration, auto member) {
      return detail::argument<Input>(declaration, member);
    };
    return detail::all_arguments<Input>(
        {argument("Tensor state", [](All& c) { return &c.input.state; }),
         argument("Tensor stored", [](All& c) { return &c.input.stored; }),
         argument("Tensor? projection=None", [](All& c) { return &c.input.projection; })},
        {argument("Tensor? offsets=None", [](All& c) { return &c.input.offsets; }),
         argument("Tensor? state_offsets=None", [](All& c) { return &c.input.state_offsets; })},
        {argument("bool with_energy=False", [](All& c) { return &c.settings.with_energy; })});
  }

  static void check(const Input& input, const RetrieveSettings& settings) { detail::check_retrieve(input, settings); }
  static Result shapes(const Input& input, const RetrieveSettings& settings) {
    return detail::retrieve_shapes(input, settings);
  }
  static Result run(const Input& input, RetrieveSettings settings, const at::Tensor& seed);
};

/// Chooses, and calls.
RetrieveResult RetrieveOp::run(const RetrieveInput& input, RetrieveSettings settings, const at::Tensor& seed) {
  const auto dimensions = input.state.dim() + (input.state_offsets.defined() ? 1 : 0);
  OpCall call;
  call.input = detail::with_all_dimensions(input);
  if (settings.backend == Backend::automatic && !detail::reason_against_attention(call.input, settings)) {
    return detail::without_added_dimensions(detail::retrieve_attention(call.input, settings), dimensions, false);
  }
  call.settings = std::move(settings);
  const auto device = input.state.device();
  call.settings.beta = detail::beta_on(device, call.settings.beta);
  const bool fused = detail::chooses_fused(call);
  call.seed = detail::dropout_seed(call.name(), call.settings, seed);
  RetrieveResult result;
  if (fused) {
    call.input.offsets = detail::offsets_on(device, call.input.offsets);
    call.input.state_offsets = detail::offsets_on(device, call.input.state_offsets);
    result = detail::run_fused(call);
  } else {
    result = detail::retrieve_composite(call.input, call.settings, call.seed);
  }
  return detail::without_added_dimensions(std::move(result), dimensions, input.offsets.defined());
}

TORCH_LIBRARY_FRAGMENT(hopfield, library) { detail::DispatchedOp<RetrieveOp>::define(library); }

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
  return detail::DispatchedOp<RetrieveOp>::call(input, options.settings());
}

RetrieveResult retrieve(const at::Tensor& state, const at::Tensor& stored, const RetrieveOptions& options) {
  return retrieve(RetrieveInput{state, stored}, options);
}

std::optional<std::string> why_not_fused(const RetrieveInput& input, const RetrieveOptions& options) {
  detail::check_retrieve(input, options.settings());
  OpCall call;
  call.input = detail::with_all_dimensions(input);
  call.settings = options.settings();
  return detail::reason_against_fused(call);
}

void register_ops() {}  // Calling it is enough: the linker then keeps this library, and loading it registers the ops.

}  // namespace hopfield
