#include "core/masks_checks.h"
#include "ops/device_kernels.h"
#include "ops/dispatched_op.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>

#include <cmath>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, "hopfield::pool: ", __VA_ARGS__)

namespace hopfield {
namespace detail {

OpCall as_op_call(const PoolInput& input, const RetrieveSettings& settings) {
  OpCall pool;
  pool.weight = input.weight;
  pool.bias = input.bias;
  pool.normalize_eps = input.normalize_eps;
  pool.settings = settings;
  auto& call = pool.input;
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
  return pool;
}

}  // namespace detail

namespace {

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
  detail::check_not_causal("hopfield::pool", input.masks);
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

/// The dispatcher's op `hopfield::pool`.
struct PoolOp {
  using Input = PoolInput;
  using Result = PoolResult;
  static constexpr auto name = "pool";
  static constexpr size_t positional = 4;

  static auto arguments() {
    using All = detail::OpArguments<Input>;
    const auto argument = [](const char* declaration, auto member) {
      return detail::argument<Input>(declaration, member);
    };
    return detail::all_arguments<Input>(
        {argument("Tensor instances", [](All& c) { return &c.input.instances; }),
         argument("Tensor state", [](All& c) { return &c.input.state; }),
         argument("Tensor weight", [](All& c) { return &c.input.weight; }),
         argument("Tensor? bias=None", [](All& c) { return &c.input.bias; })},
        {argument("Tensor? offsets=None", [](All& c) { return &c.input.offsets; }),
         argument("float? normalize_eps=None", [](All& c) { return &c.input.normalize_eps; })},
        {});
  }

  static void check(const Input& input, const RetrieveSettings& settings) { check_pool(input, settings); }
  static Result shapes(const Input& input, const RetrieveSettings& settings) {
    return detail::pool_shapes(input, settings);
  }
  static Result run(const Input& input, const RetrieveSettings& settings, const at::Tensor& seed) {
    auto call = detail::as_op_call(input, settings);
    const auto device = input.instances.device();
    call.settings.beta = detail::beta_on(device, call.settings.beta);
    const bool fused = detail::chooses_fused(call);
    call.seed = detail::dropout_seed(call.name(), settings, seed);
    if (!fused) return detail::pool_composite(call);
    call.input.offsets = detail::offsets_on(device, call.input.offsets);
    return detail::run_fused(call);
  }
};

TORCH_LIBRARY_FRAGMENT(hopfield, library) { detail::DispatchedOp<PoolOp>::define(library); }

}  // namespace

PoolResult pool(const PoolInput& input, const RetrieveOptions& options) {
  check_expressible(input, options.settings());
  return detail::DispatchedOp<PoolOp>::call(input, options.settings());
}

std::optional<std::string> why_not_fused(const PoolInput& input, const RetrieveOptions& options) {
  check_expressible(input, options.settings());
  check_pool(input, options.settings());
  auto call = detail::as_op_call(input, options.settings());
  return detail::reason_against_fused(call);
}

std::string describe_backend(const PoolInput& input, const RetrieveOptions& options) {
  const auto reason =
      options.settings().backend == Backend::composite ? "the options ask for them" : why_not_fused(input, options);
  if (reason) return c10::str("LibTorch operations: ", *reason);
  auto call = detail::as_op_call(input, options.settings());
  call.settings.beta = detail::beta_on(input.instances.device(), call.settings.beta);
  return detail::kernels_for(call).describe(call);
}

}  // namespace hopfield
