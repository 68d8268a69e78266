#include "core/mask.h"
#include "theory/head_masks.h"
#include "theory/head_tally.h"
#include <hopfield/core/bags.h>
#include <hopfield/theory/heads.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <string>

#define HOPFIELD_CHECK(condition, ...) TORCH_CHECK(condition, function, ": ", __VA_ARGS__)

namespace hopfield::theory {
namespace {

std::string describe(const at::Tensor& tensor) {
  return tensor.defined() ? c10::str(tensor.sizes(), " of type ", tensor.scalar_type())
                          : std::string("an undefined tensor");
}

bool is_floating(const at::Tensor& tensor) { return tensor.defined() && at::isFloatingType(tensor.scalar_type()); }

void check_tile(const char* function, const HeadSettings& settings) {
  HOPFIELD_CHECK(settings.tile > 0, "expected tile to be positive, got ", settings.tile);
}

/// Weights or scores of an attention, and what does not count there.
struct Attention {
  const char* function;
  at::Tensor numbers;  // [N, H, L, S]
  HeadSizes sizes;
  std::vector<at::Tensor> excluded;
  at::Tensor ignored;
  int64_t rows;  // of a tile

  at::Tensor ignored_of(const HeadTile& tile) const { return ignored.defined() ? tile_of(ignored, tile) : ignored; }
};

Attention checked(const char* function, const char* name, const at::Tensor& given, const Masks& masks,
                  const HeadSettings& settings) {
  HOPFIELD_CHECK(is_floating(given) && (given.dim() == 3 || given.dim() == 4), "expected ", name,
                 " to be floating-point of 4 dimensions [N, H, L, S], or 3 without a batch, got ", describe(given));
  check_tile(function, settings);
  const bool batched = given.dim() == 4;
  const auto numbers = batched ? given.detach() : given.detach().unsqueeze(0);
  const HeadSizes sizes{numbers.size(0), numbers.size(1), numbers.size(2), numbers.size(3)};
  check_head_masks(function, masks, sizes, batched);
  return {function,
          numbers,
          sizes,
          excluded_keys(masks, sizes, numbers.device()),
          ignored_queries(function, settings.query_mask, sizes, batched),
          rows_of_tile(sizes, settings.tile)};
}

/// Masks of a layer for the queries of a tile.
Masks masks_of(const Masks& masks, const HeadSizes& sizes, const HeadTile& tile, at::Device device) {
  auto part = masks;
  for (auto* keys : {&part.padding_mask, &part.key_bias}) {
    if (keys->defined() && keys->size(0) > 1) *keys = keys->narrow(0, tile.first_sample, tile.samples);
  }
  if (auto& mask = part.association_mask; mask.defined()) {
    mask = mask.narrow(-2, tile.first_query, tile.queries);
    if (mask.dim() == 3) mask = mask.narrow(0, tile.first_sample * sizes.heads, tile.samples * sizes.heads);
  }
  if (part.is_causal) {  // the tile's first query is not that of the sequence
    part.is_causal = false;
    const auto behind =
        core::behind_queries(sizes.queries, sizes.keys, device).narrow(0, tile.first_query, tile.queries);
    auto& mask = part.association_mask;
    if (!mask.defined()) {
      mask = behind;
    } else {
      mask = mask.scalar_type() == at::kBool ? mask.logical_or(behind)
                                             : mask.masked_fill(behind, -std::numeric_limits<double>::infinity());
    }
  }
  return part;
}

/// The patterns of a layer, and where their dimensions are.
struct LayerPatterns {
  nn::AssociationInput input;
  int64_t batch_dimension, row_dimension;

  int64_t batch() const {
    int64_t batch = 1;
    for (const auto* patterns : {&input.state, &input.stored, &input.projection}) {
      if (patterns->defined()) batch = std::max(batch, patterns->size(batch_dimension));
    }
    return batch;
  }

  nn::AssociationInput part(const HeadTile& tile) const {
    const auto samples = [&](const at::Tensor& patterns) {
      if (!patterns.defined() || patterns.size(batch_dimension) == 1) return patterns;
      return patterns.narrow(batch_dimension, tile.first_sample, tile.samples);
    };
    return {samples(input.state).narrow(row_dimension, tile.first_query, tile.queries), samples(input.stored),
            samples(input.projection)};
  }
};

LayerPatterns with_batch(const char* function, const nn::AssociationInput& given, bool batched, bool batch_first) {
  auto input = given;
  const int64_t batch_dimension = batch_first ? 0 : 1;
  for (auto* patterns : {&input.state, &input.stored, &input.projection}) {
    if (!patterns->defined()) continue;
    HOPFIELD_CHECK(patterns->dim() == (batched ? 3 : 2), "expected all patterns to have ", batched ? 3 : 2,
                   " dimensions like state, got ", describe(*patterns));
    if (!batched) *patterns = patterns->unsqueeze(batch_dimension);
  }
  return {input, batch_dimension, 1 - batch_dimension};
}

}  // namespace

HeadClasses classify_heads(const at::Tensor& association, const Masks& masks, const HeadOptions& options) {
  const auto call = checked("hopfield::theory::classify_heads", "association", association, masks, options.settings());
  HeadTally tally(call.function, call.sizes.heads);
  for_each_tile(call.sizes, call.rows, [&](const HeadTile& tile) {
    tally.add(tile_of(call.numbers, tile), excluded_keys_of(call.excluded, tile), call.ignored_of(tile));
  });
  return tally.result();
}

HeadClasses classify_heads_by_scores(const at::Tensor& scores, const at::Tensor& logsumexp, const Masks& masks,
                                     const HeadOptions& options) {
  constexpr const char* function = "hopfield::theory::classify_heads_by_scores";
  const auto call = checked(function, "scores", scores, masks, options.settings());
  HOPFIELD_CHECK(is_floating(logsumexp) && logsumexp.sizes() == scores.sizes().slice(0, scores.dim() - 1),
                 "expected logsumexp to be floating-point of the shape of scores without their last dimension, ",
                 scores.sizes().slice(0, scores.dim() - 1), ", got ", describe(logsumexp));
  const auto sums = logsumexp.detach().reshape({call.sizes.batch, call.sizes.heads, call.sizes.queries, 1});
  HeadTally tally(function, call.sizes.heads);
  for_each_tile(call.sizes, call.rows, [&](const HeadTile& tile) {
    const auto numbers = tile_of(call.numbers, tile);
    const auto masked = excluded_keys_of(call.excluded, tile), infinite = numbers.isneginf();
    tally.add((numbers.to(at::kDouble) - tile_of(sums, tile)).exp_(),
              masked.defined() ? infinite.logical_or(masked) : infinite, call.ignored_of(tile));
  });
  return tally.result();
}

HeadClasses classify_heads_of_bags(const at::Tensor& association, const at::Tensor& offsets, const at::Tensor& key_bias,
                                   const HeadOptions& options) {
  constexpr const char* function = "hopfield::theory::classify_heads_of_bags";
  HOPFIELD_CHECK(is_floating(association) && association.dim() == 3,
                 "expected association to be floating-point of 3 dimensions [total, H, L], got ",
                 describe(association));
  check_tile(function, options.settings());
  HOPFIELD_CHECK(!options.query_mask().defined(), "expected no query_mask for bags, got ",
                 describe(options.query_mask()));
  HOPFIELD_CHECK(!key_bias.defined() || (is_floating(key_bias) && key_bias.sizes() == association.sizes().slice(0, 1)),
                 "expected key_bias to be floating-point of shape [total] = [", association.size(0), "], got ",
                 describe(key_bias));
  HeadTally tally(function, association.size(1));
  int64_t first = 0;
  for (const auto size : bag_sizes(offsets, association.size(0))) {
    const auto weights = association.detach().narrow(0, first, size).permute({1, 2, 0}).unsqueeze(0);  // [1, H, L, S]
    const auto excluded = key_bias.defined() ? key_bias.narrow(0, first, size).isneginf() : at::Tensor();
    const HeadSizes sizes{1, association.size(1), association.size(2), size};
    for_each_tile(sizes, rows_of_tile(sizes, options.tile()),
                  [&](const HeadTile& tile) { tally.add(tile_of(weights, tile), excluded, {}); });
    first += size;
  }
  return tally.result();
}

HeadClasses classify_heads(nn::Hopfield layer, const nn::AssociationInput& input, const Masks& masks,
                           const HeadOptions& options) {
  constexpr const char* function = "hopfield::theory::classify_heads";
  const at::NoGradGuard no_grad;
  HOPFIELD_CHECK(!layer.is_empty(), "expected a layer, got an empty holder");
  HOPFIELD_CHECK(input.state.defined() && input.stored.defined() && (input.state.dim() == 3 || input.state.dim() == 2),
                 "expected state and stored to have 3 dimensions, or 2 without a batch, got ", describe(input.state),
                 " and ", describe(input.stored));
  check_tile(function, options.settings());
  const bool batched = input.state.dim() == 3;
  const auto patterns = with_batch(function, input, batched, layer->options.batch_first());
  const HeadSizes sizes{patterns.batch(), layer->options.num_heads(), patterns.input.state.size(patterns.row_dimension),
                        patterns.input.stored.size(patterns.row_dimension)};
  check_head_masks(function, masks, sizes, batched);
  HOPFIELD_CHECK(!masks.association_mask.defined() || masks.association_mask.dim() < 4,
                 "expected association_mask to have shape [L, S] or [N * num_heads, L, S], got ",
                 describe(masks.association_mask));
  auto batch_masks = masks;
  for (auto* keys : {&batch_masks.padding_mask, &batch_masks.key_bias}) {
    if (keys->defined() && !batched) *keys = keys->unsqueeze(0);
  }
  // The padding of a sequence that attends to itself is among its queries, too.
  const bool attends_to_itself = input.state.is_same(input.stored);
  const auto& query_mask =
      attends_to_itself && !options.query_mask().defined() ? masks.padding_mask : options.query_mask();
  const auto ignored = ignored_queries(function, query_mask, sizes, batched);
  const bool in_one_piece = layer->options.stop_rule() == StopRule::per_head;
  const auto rows = in_one_piece ? std::numeric_limits<int64_t>::max() : rows_of_tile(sizes, options.tile());
  HeadTally tally(function, sizes.heads);
  for_each_tile(sizes, rows, [&](const HeadTile& tile) {
    const auto found = layer->associate(patterns.part(tile), masks_of(batch_masks, sizes, tile, input.state.device()),
                                        nn::AssociationRequest().with_association());
    tally.add(found.association, found.scores.isneginf(), ignored.defined() ? tile_of(ignored, tile) : ignored);
  });
  return tally.result();
}

}  // namespace hopfield::theory
