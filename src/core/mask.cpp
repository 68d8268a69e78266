#include "core/mask.h"

#include "core/masks_checks.h"
#include "core/shared_matmul.h"

#include <ATen/ATen.h>

#include <limits>
#include <vector>

namespace hopfield::detail {

void check_not_causal(const char* function, const Masks& masks) {
  TORCH_CHECK(!masks.is_causal, function,
              ": expected is_causal to be false, got true: queries and stored patterns are not rows of one sequence "
              "here; an association_mask can exclude single scores");
}

}  // namespace hopfield::detail

namespace hopfield::core {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// -inf - (-inf) is NaN: the scores of a dead row are replaced before they are separated, so that its gradient is zero,
/// too. What comes out for that row is replaced then.
at::Tensor live_scores(const at::Tensor& scores, const ScoreMask& mask) {
  return mask.dead.defined() ? scores.masked_fill(mask.dead, 0.0) : scores;
}

at::Tensor joined(const at::Tensor& excluded, const at::Tensor& more) {
  return excluded.defined() ? excluded.logical_or(more) : more;
}

at::Tensor weights_of_live_rows(const at::Tensor& weights, const ScoreMask& mask) {
  return mask.dead.defined() ? weights.masked_fill(mask.dead, 0.0) : weights;
}

at::Tensor conjugate_of_live_rows(const at::Tensor& conjugate, const ScoreMask& mask) {
  return mask.dead.defined() ? conjugate.masked_fill(mask.dead.squeeze(-1), -kInfinity) : conjugate;
}

}  // namespace

ScoreMask make_score_mask(const at::Tensor& stored, at::Tensor bias, at::Tensor excluded, at::Tensor poisoned) {
  if (bias.defined()) {
    const auto infinite = at::isneginf(bias.detach());
    bias = bias.masked_fill(infinite, 0.0);
    excluded = excluded.defined() ? excluded.bitwise_or(infinite) : infinite;
  }
  at::Tensor dead;
  if (stored.sym_size(-2) == 0) {
    dead = at::ones(std::vector<int64_t>(stored.dim(), 1), stored.options().dtype(at::kBool));
  } else if (excluded.defined()) {
    dead = excluded.all(-1, /*keepdim=*/true);
  }
  return {bias, excluded, poisoned, dead};
}

at::Tensor behind_queries(const c10::SymInt& queries, const c10::SymInt& keys, at::Device device) {
  // Made of ones, since sizes may be symbols, which arange() does not take.
  return at::ones_symint({queries, keys}, at::TensorOptions(device).dtype(at::kBool)).triu(1);
}

ScoreMask make_score_mask(const at::Tensor& state, const at::Tensor& stored, const Masks& masks) {
  at::Tensor bias, excluded;
  const auto with_query_dimensions = [&](at::Tensor keys) {
    while (keys.dim() < stored.dim()) keys = keys.unsqueeze(-2);
    return keys;
  };
  if (masks.padding_mask.defined()) excluded = with_query_dimensions(masks.padding_mask);
  if (masks.is_causal)
    excluded = joined(excluded, behind_queries(state.sym_size(-2), stored.sym_size(-2), state.device()));
  if (const auto& mask = masks.association_mask; mask.defined()) {
    if (mask.scalar_type() == at::kBool) {
      excluded = joined(excluded, mask);
    } else {
      bias = mask;
    }
  }
  if (masks.key_bias.defined()) {
    const auto key_bias = with_query_dimensions(masks.key_bias);
    bias = bias.defined() ? bias + key_bias : key_bias;
  }
  return make_score_mask(stored, bias, excluded);
}

at::Tensor scores(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const ScoreMask& mask) {
  auto result = shared_matmul(state * beta, stored.transpose(-2, -1));  // [N, H, L, S]
  if (mask.poisoned.defined()) result = result.masked_fill(mask.poisoned, std::numeric_limits<double>::quiet_NaN());
  if (mask.bias.defined()) result = result + mask.bias;
  if (mask.excluded.defined()) result = result.masked_fill(mask.excluded, -kInfinity);
  return result;
}

at::Tensor association(const at::Tensor& scores, const ScoreMask& mask, const Separation& separation) {
  return weights_of_live_rows(separated_weights(live_scores(scores, mask), separation), mask);
}

at::Tensor conjugate(const at::Tensor& scores, const ScoreMask& mask, const Separation& separation) {
  return conjugate_of_live_rows(separated_conjugate(live_scores(scores, mask), separation), mask);
}

Separated associate(const at::Tensor& scores, const ScoreMask& mask, const Separation& separation) {
  const auto separated = separate(live_scores(scores, mask), separation);
  return {weights_of_live_rows(separated.weights, mask), conjugate_of_live_rows(separated.conjugate, mask)};
}

at::Tensor update(const at::Tensor& state, const at::Tensor& stored, const at::Tensor& beta, const ScoreMask& mask,
                  const Separation& separation) {
  const auto weights = association(scores(state, stored, beta, mask), mask, separation);
  const auto next = shared_matmul(weights, stored);  // [N, H, L, d]
  return mask.dead.defined() ? at::where(mask.dead, state, next) : next;
}

}  // namespace hopfield::core
