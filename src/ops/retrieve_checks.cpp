#include "core/separate.h"
#include "ops/call_tensors.h"
#include "ops/capture.h"
#include "ops/retrieve_internal.h"
#include "ops/transforms.h"
#include <hopfield/core/bags.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>

// Each wrong call ends in one sentence that names the argument, what was expected, and what came.
#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, sizes.function, ": ", __VA_ARGS__)

namespace hopfield::detail {
namespace {

std::string describe(const at::Tensor& tensor) {
  return tensor.defined() ? c10::str(tensor.sym_sizes(), " of type ", tensor.scalar_type(), " on ", tensor.device())
                          : std::string("an undefined tensor");
}

bool one_or(const c10::SymInt& size, const c10::SymInt& full) { return size == 1 || size == full; }

const char* pattern_shape(int64_t dimensions, bool ragged) {
  if (ragged) return dimensions == 4 ? "[total, H or 1, d]" : "[total, d]";
  return dimensions == 4 ? "[N or 1, H or 1, S, d]" : dimensions == 3 ? "[N or 1, S, d]" : "[S, d]";
}

CallSizes check_state(const RetrieveInput& input) {
  const auto& state = input.state;
  CallSizes sizes{};
  sizes.function = "hopfield::retrieve";
  sizes.ragged = input.offsets.defined();
  const bool ragged_queries = input.state_offsets.defined();
  HOPFIELD_CHECK(!ragged_queries || sizes.ragged,
                 "expected offsets of the stored patterns together with state_offsets, got none; a sequence that "
                 "attends to itself has the same offsets twice");
  if (ragged_queries) {
    HOPFIELD_CHECK(state.defined() && (state.dim() == 2 || state.dim() == 3),
                   "expected state to have 3 dimensions [total_L, H, d], or 2, together with state_offsets, got ",
                   describe(state));
  }
  HOPFIELD_CHECK(state.defined() && state.dim() >= 2 && state.dim() <= 4,
                 "expected state to have 4 dimensions [N, H, L, d], or 3 or 2, got ", describe(state),
                 state.defined() && state.dim() == 1 ? "; one query is state.unsqueeze(0)" : "");
  HOPFIELD_CHECK(at::isFloatingType(state.scalar_type()), "expected state to have a floating-point type, got ",
                 describe(state));
  sizes.dimensions = state.dim() + (ragged_queries ? 1 : 0);
  sizes.batch = ragged_queries     ? input.state_offsets.sym_numel() - 1
                : state.dim() >= 3 ? state.sym_size(0)
                                   : c10::SymInt(1);
  sizes.heads = sizes.dimensions == 4 ? state.sym_size(1) : c10::SymInt(1);
  sizes.queries = ragged_queries ? state.sym_size(0) : state.sym_size(-2);
  sizes.depth = state.sym_size(-1);
  HOPFIELD_CHECK(!sizes.ragged || sizes.dimensions >= 3,
                 "expected state to have a batch dimension when offsets are given, got ", describe(state));
  return sizes;
}

void check_patterns(const at::Tensor& patterns, const char* name, const CallSizes& sizes, const at::Tensor& state) {
  const auto shape = pattern_shape(sizes.dimensions, sizes.ragged);
  HOPFIELD_CHECK(patterns.defined(), "expected ", name, " to have shape ", shape, ", got an undefined tensor");
  const auto expected_dimensions = sizes.dimensions - (sizes.ragged ? 1 : 0);
  HOPFIELD_CHECK(patterns.dim() == expected_dimensions, "expected ", name, " to have ", expected_dimensions,
                 " dimensions ", shape, " for a state of ", sizes.dimensions, " dimensions, got ",
                 patterns.sym_sizes());
  HOPFIELD_CHECK(patterns.scalar_type() == state.scalar_type(), "expected ", name, " to have the type of state, ",
                 state.scalar_type(), ", got ", patterns.scalar_type());
  HOPFIELD_CHECK(patterns.device() == state.device(), "expected ", name, " to be on the device of state, ",
                 state.device(), ", got ", patterns.device());
  if (!sizes.ragged && sizes.dimensions >= 3) {
    HOPFIELD_CHECK(one_or(patterns.sym_size(0), sizes.batch), "expected ", name, " to have batch size ", sizes.batch,
                   " like state, or 1, got ", patterns.sym_sizes());
  }
  if (sizes.dimensions == 4) {
    HOPFIELD_CHECK(one_or(patterns.sym_size(1), sizes.heads), "expected ", name, " to have ", sizes.heads,
                   " heads like state, or 1, got ", patterns.sym_sizes());
  }
}

void check_masks(const RetrieveInput& input, const CallSizes& sizes) {
  const auto& mask = input.masks.association_mask;
  const auto device = input.state.device();
  if (mask.defined()) {
    HOPFIELD_CHECK(!sizes.ragged, "expected no association_mask together with offsets, got ", describe(mask),
                   "; use key_bias, or pad the bags");
    HOPFIELD_CHECK(mask.scalar_type() == at::kBool || at::isFloatingType(mask.scalar_type()),
                   "expected association_mask to be bool (true: excluded) or floating-point (added), got ",
                   describe(mask));
    bool fits = mask.dim() >= 2 && (mask.dim() == 2 || mask.dim() == sizes.dimensions) &&
                mask.sym_size(-1) == sizes.keys && one_or(mask.sym_size(-2), sizes.queries);
    if (fits && mask.dim() >= 3) fits = one_or(mask.sym_size(0), sizes.batch);
    if (fits && mask.dim() == 4) fits = one_or(mask.sym_size(1), sizes.heads);
    HOPFIELD_CHECK(fits, "expected association_mask to have shape [L, S] = [", sizes.queries, ", ", sizes.keys,
                   "], or one entry (or 1) for each of [N, H, L, S] = [", sizes.batch, ", ", sizes.heads, ", ",
                   sizes.queries, ", ", sizes.keys, "], got ", mask.sym_sizes());
    HOPFIELD_CHECK(mask.device() == device, "expected association_mask to be on the device of state, ", device,
                   ", got ", mask.device());
  }
  const auto check_key_shape = [&](const at::Tensor& tensor, const char* name, bool may_be_shared) {
    const bool batched = sizes.dimensions >= 3 && !sizes.ragged;
    const bool fits = batched ? tensor.dim() == 2 && tensor.sym_size(1) == sizes.keys &&
                                    (tensor.sym_size(0) == sizes.batch || (may_be_shared && tensor.sym_size(0) == 1))
                              : tensor.dim() == 1 && tensor.sym_size(0) == sizes.keys;
    HOPFIELD_CHECK(fits, "expected ", name, " to have shape ",
                   batched ? c10::str("[N, S] = [", sizes.batch, ", ", sizes.keys, "]")
                           : c10::str(sizes.ragged ? "[total] = [" : "[S] = [", sizes.keys, "]"),
                   ", got ", tensor.sym_sizes());
    HOPFIELD_CHECK(tensor.device() == device, "expected ", name, " to be on the device of state, ", device, ", got ",
                   tensor.device());
  };
  if (input.masks.padding_mask.defined()) {
    HOPFIELD_CHECK(!sizes.ragged, "expected no padding_mask together with offsets: ragged bags have no padding, got ",
                   describe(input.masks.padding_mask));
    HOPFIELD_CHECK(input.masks.padding_mask.scalar_type() == at::kBool,
                   "expected padding_mask to be bool (true: excluded), got ", describe(input.masks.padding_mask));
    check_key_shape(input.masks.padding_mask, "padding_mask", false);
  }
  if (input.masks.key_bias.defined()) {
    HOPFIELD_CHECK(at::isFloatingType(input.masks.key_bias.scalar_type()),
                   "expected key_bias to have a floating-point type, got ", describe(input.masks.key_bias));
    check_key_shape(input.masks.key_bias, "key_bias", true);
  }
}

void check_beta(const at::Tensor& beta, const CallSizes& sizes, const at::Tensor& state, bool with_energy) {
  if (!beta.defined()) return;
  HOPFIELD_CHECK(at::isFloatingType(beta.scalar_type()) &&
                     (beta.dim() == 0 || (beta.dim() == 1 && one_or(beta.sym_size(0), sizes.heads))),
                 "expected beta to be one floating-point number, or one for each of ", sizes.heads, " heads, got ",
                 describe(beta));
  HOPFIELD_CHECK(beta.device() == state.device() || beta.is_cpu(), "expected beta to be on the device of state, ",
                 state.device(), ", or on the CPU, got ", beta.device());
  // The values on another device would have to be waited for. They are not checked there, and show as NaN in the
  // results.
  if (!beta.is_cpu() || !has_values(beta)) return;
  const auto values = host_numbers(beta, at::kDouble);
  for (int64_t i = 0; i < values.numel(); ++i) {
    const auto value = values.data_ptr<double>()[i];
    HOPFIELD_CHECK(std::isfinite(value), "expected beta to be finite, got ", value);
    HOPFIELD_CHECK(!with_energy || value > 0, "expected beta to be positive when the energy is asked for, got ", value);
  }
}

void check_settings(const RetrieveInput& input, const RetrieveSettings& settings, const CallSizes& sizes) {
  check_iteration(sizes.function, settings, sizes.heads);
  HOPFIELD_CHECK(settings.dropout >= 0 && settings.dropout <= 1, "expected dropout to be between 0 and 1, got ",
                 settings.dropout);
  HOPFIELD_CHECK(!settings.generator.defined() || settings.generator.device().is_cpu(),
                 "expected generator to be a CPU generator: it only draws the seed of the dropout mask, got one on ",
                 settings.generator.device());
  check_beta(settings.beta, sizes, input.state, settings.with_energy);
}

void check_dropout(const RetrieveInput& input, const RetrieveSettings& settings, const CallSizes& sizes) {
  for (const auto* tensor : tensors_of(input, settings)) {
    HOPFIELD_CHECK(!is_batched(*tensor), "expected no dropout under vmap, got ", settings.dropout,
                   ": all of its batch would drop the same entries; set dropout to 0, or give the op the batch as a "
                   "dimension of its patterns");
  }
}

/// Throws for calls that would have to wait for the device, or whose dropout mask would be the same in all replays.
void check_capture(const RetrieveInput& input, const RetrieveSettings& settings, const CallSizes& sizes) {
  const auto& steps = settings.update_steps_max.values();
  HOPFIELD_CHECK(std::none_of(steps.begin(), steps.end(), [](int64_t count) { return count < 0; }),
                 "expected a number of updates while a CUDA graph is being captured, got until_converged, which reads "
                 "values to decide when to stop; set update_steps_max: queries that meet update_steps_eps stop earlier "
                 "all the same");
  HOPFIELD_CHECK(settings.dropout == 0, "expected no dropout while a CUDA graph is being captured, got ",
                 settings.dropout,
                 ": the seed of its mask is drawn on the host, and all replays would drop the same entries; set it to "
                 "0, or leave the call out of the graph");
  const auto check_place = [&](const at::Tensor& tensor, const char* name) {
    HOPFIELD_CHECK(tensor.device() == input.state.device(), "expected ", name, " to be on the device of state, ",
                   input.state.device(), ", while a CUDA graph is being captured, got ", tensor.device(),
                   "; move it there before");
  };
  if (input.offsets.defined()) check_place(input.offsets, "offsets");
  HOPFIELD_CHECK(!input.state_offsets.defined(),
                 "expected dense queries while a CUDA graph is being captured, got "
                 "state_offsets, which are read on the host; pad the queries");
  // The numbers of a beta without a gradient become part of the graph.
  if (settings.beta.defined() && settings.beta.requires_grad()) check_place(settings.beta, "a beta with a gradient");
}

/// Offsets on a device are read back to be checked, but not while a graph is captured, whose replays may find others.
void check_offsets(const at::Tensor& offsets, const char* name, const c10::SymInt& total, const at::Tensor& state,
                   const CallSizes& sizes) {
  HOPFIELD_CHECK(offsets.dim() == 1 && c10::isIntegralType(offsets.scalar_type(), /*includeBool=*/false), "expected ",
                 name, " to be 1-dimensional integers [N + 1], got ", describe(offsets));
  HOPFIELD_CHECK(offsets.sym_size(0) == sizes.batch + 1, "expected ", name, " to have ", sizes.batch + 1,
                 " entries, one more than the batch size, got ", offsets.sym_sizes(),
                 offsets.sym_size(0) == sizes.batch
                     ? "; lengths become offsets by at::cat({at::zeros({1}, at::kLong), lengths.cumsum(0)})"
                     : "");
  HOPFIELD_CHECK(!is_batched(offsets), "expected the same ", name, " for all of vmap's batch, got ", describe(offsets),
                 " batched: sizes of bags are sizes of tensors; concatenate the bags of the batch instead");
  const auto rows = total.maybe_as_int();
  if (rows && has_values(offsets) && !is_capturing(state)) bag_sizes(host_numbers(offsets, at::kLong), *rows);
}

}  // namespace

bool makes_updates(const IterationSettings& settings) {
  const auto& steps = settings.update_steps_max.values();
  return std::any_of(steps.begin(), steps.end(), [](int64_t count) { return count != 0; });
}

double default_beta(int64_t depth) { return 1.0 / std::sqrt(static_cast<double>(std::max<int64_t>(depth, 1))); }

void check_iteration(const char* function, const IterationSettings& settings, const c10::SymInt& heads) {
  const auto check_count = [&](size_t count, const char* name) {
    TORCH_CHECK(one_or(static_cast<int64_t>(count), heads), function, ": expected ", name,
                " to have one value, or one for each of ", heads, " heads, got ", count, " values");
  };
  check_count(settings.update_steps_max.values().size(), "update_steps_max");
  check_count(settings.update_steps_eps.values().size(), "update_steps_eps");
  bool until_converged = false, always_until_converged = true, exact = false;
  for (const auto steps : settings.update_steps_max.values()) {
    until_converged |= steps < 0;
    always_until_converged &= steps < 0;
  }
  for (const auto eps : settings.update_steps_eps.values()) {
    TORCH_CHECK(std::isfinite(eps) && eps >= 0, function,
                ": expected update_steps_eps to be finite and not negative, got ", eps);
    exact |= eps == 0;
  }
  TORCH_CHECK(!until_converged || !exact, function,
              ": expected a positive update_steps_eps for updating until converged, got 0; set update_steps_eps, or a "
              "number of steps with update_steps_max");
  TORCH_CHECK(settings.update_steps_cap >= 1, function, ": expected update_steps_cap to be at least 1, got ",
              settings.update_steps_cap);
  core::check_separation(function, settings.separation);
  if (settings.gradient.kind() == Gradient::Kind::last) {
    TORCH_CHECK(settings.gradient.steps() >= 0, function, ": expected gradient last(k) with k >= 0, got last(",
                settings.gradient.steps(), ")");
  }
  TORCH_CHECK(
      settings.gradient.kind() != Gradient::Kind::implicit || always_until_converged, function,
      ": expected update_steps_max = until_converged for the implicit gradient, which is that of a fixed point, "
      "got a fixed number of steps; call until_converged(), or use the unrolled gradient");
}

void check_layouts(const char* function, std::initializer_list<std::pair<const char*, const at::Tensor*>> tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (!tensor->defined()) continue;
    TORCH_CHECK(!tensor->is_nested() && tensor->layout() == at::kStrided, function, ": expected ", name,
                " to be a dense tensor, got ", tensor->is_nested() ? "a nested one" : c10::str(tensor->layout()),
                "; ragged patterns are concatenated, with offsets [N + 1] that say where each bag begins");
  }
}

void check_retrieve(const RetrieveInput& input, const RetrieveSettings& settings) {
  check_layouts("hopfield::retrieve", {{"state", &input.state},
                                       {"stored", &input.stored},
                                       {"projection", &input.projection},
                                       {"association_mask", &input.masks.association_mask},
                                       {"padding_mask", &input.masks.padding_mask},
                                       {"key_bias", &input.masks.key_bias},
                                       {"offsets", &input.offsets},
                                       {"state_offsets", &input.state_offsets},
                                       {"beta", &settings.beta}});
  auto sizes = check_state(input);
  check_patterns(input.stored, "stored", sizes, input.state);
  HOPFIELD_CHECK(input.stored.sym_size(-1) == sizes.depth, "expected stored to have ", sizes.depth,
                 " features like state, got ", input.stored.sym_sizes());
  sizes.keys = sizes.ragged ? input.stored.sym_size(0) : input.stored.sym_size(-2);
  if (input.projection.defined()) {
    check_patterns(input.projection, "projection", sizes, input.state);
    const auto keys = sizes.ragged ? input.projection.sym_size(0) : input.projection.sym_size(-2);
    HOPFIELD_CHECK(keys == sizes.keys, "expected projection to have ", sizes.keys, " patterns like stored, got ",
                   input.projection.sym_sizes());
  }
  check_beyond_patterns(input, settings, sizes);
}

void check_beyond_patterns(const RetrieveInput& input, const RetrieveSettings& settings, const CallSizes& sizes) {
  if (sizes.ragged) check_offsets(input.offsets, "offsets", sizes.keys, input.state, sizes);
  if (input.state_offsets.defined()) {
    check_offsets(input.state_offsets, "state_offsets", sizes.queries, input.state, sizes);
    HOPFIELD_CHECK(!settings.with_scores,
                   "expected no scores of ragged queries to be asked for, got with_scores: each "
                   "bag would have another shape; pad the queries");
  }
  check_masks(input, sizes);
  check_settings(input, settings, sizes);
  if (settings.dropout > 0) check_dropout(input, settings, sizes);
  if (is_capturing(input.state)) check_capture(input, settings, sizes);
}

RetrieveInput with_all_dimensions(RetrieveInput input) {
  if (input.projection.defined() && input.projection.is_same(input.stored)) input.projection = at::Tensor();
  const auto dimensions = input.state.dim() + (input.state_offsets.defined() ? 1 : 0);
  const bool ragged = input.offsets.defined();
  const auto add_missing = [&](at::Tensor& patterns, bool rows_first) {
    if (!patterns.defined()) return;
    if (dimensions <= 3) patterns = patterns.unsqueeze(rows_first || dimensions == 3 ? 1 : 0);
    if (dimensions == 2) patterns = patterns.unsqueeze(0);
  };
  add_missing(input.state, false);
  add_missing(input.stored, ragged);
  add_missing(input.projection, ragged);
  if (auto& mask = input.masks.association_mask; mask.defined()) {
    if (mask.dim() == 3) mask = mask.unsqueeze(1);
    if (mask.dim() == 2) mask = mask.unsqueeze(0).unsqueeze(0);
  }
  if (!ragged) {
    for (auto* keys : {&input.masks.padding_mask, &input.masks.key_bias}) {
      if (!keys->defined()) continue;
      if (keys->dim() == 1) *keys = keys->unsqueeze(0);
      *keys = keys->unsqueeze(1).unsqueeze(1);
    }
  }
  return input;
}

RetrieveResult without_added_dimensions(RetrieveResult result, int64_t dimensions, bool ragged) {
  const auto drop = [&](at::Tensor& tensor, bool rows_first) {
    if (!tensor.defined()) return;
    if (dimensions <= 3) tensor = tensor.squeeze(1);
    if (dimensions == 2 && !rows_first) tensor = tensor.squeeze(0);
  };
  for (auto* tensor : {&result.output, &result.state, &result.logsumexp, &result.steps, &result.residual,
                       &result.converged, &result.energy}) {
    drop(*tensor, false);
  }
  drop(result.scores, ragged);
  return result;
}

}  // namespace hopfield::detail
