#include "ops/nonfinite.h"

#include "core/mask.h"

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield::detail {
namespace {

bool all_finite(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.numel() == 0) return true;
  const auto [least, most] = at::aminmax(tensor.detach());
  return std::isfinite(least.item<double>()) && std::isfinite(most.item<double>());
}

/// [N or 1, H or 1, L or 1, S], ragged [total, 1]: true where a query may not attend to a key. Undefined: every query
/// may attend to every key.
at::Tensor excluded_keys(const RetrieveInput& input) {
  at::Tensor excluded = input.masks.padding_mask;
  const auto add = [&](const at::Tensor& more) { excluded = excluded.defined() ? excluded.bitwise_or(more) : more; };
  // Of ragged keys, the causal mask is left out: the first query sees none of them but the first.
  if (input.masks.is_causal && !input.offsets.defined()) {
    add(core::behind_queries(input.state.sym_size(-2), input.stored.sym_size(-2), input.state.device()));
  }
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
