#pragma once

#include <hopfield/core/masks.h>
#include <hopfield/nn/hopfield.h>
#include <hopfield/ops/option_macro.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>

namespace hopfield::theory {

struct HeadSettings {
  /// [N, L], or [L] without a batch; bool, true: the query does not count. For queries that are padding.
  at::Tensor query_mask;
  /// Most weights, of queries times keys and heads, that are looked at in one piece. A single query of one batch
  /// element may exceed it.
  int64_t tile = int64_t{1} << 22;
};

class HeadOptions {
  using Derived = HeadOptions;
  using Settings = HeadSettings;

 public:
  HOPFIELD_OPTION(query_mask)
  HOPFIELD_OPTION(tile)

  const HeadSettings& settings() const { return settings_; }

 private:
  HeadSettings settings_;
};

/// What kind of averages the heads of an attention take. For each query,
///
///     k90 = the fewest weights whose sum reaches 0.9 of the sum of the query's weights
///
/// and a head's class follows from the median, over the queries of all batch elements, of k90 / S, where S is the
/// number of keys that the query may attend to (its live keys):
///
///     I    above 1/2            averages over most keys: the global fixed point
///     II   above 1/8            large metastable states
///     III  above 1/32           medium metastable states
///     IV   1/32 or less         few keys, or a single one
///
/// Since k90 is at least 1, queries of fewer than 32 live keys are never of class IV. Queries whose weights are all
/// zero, or that have no live keys, do not count. The median of an even number of queries is the lower one of the two
/// in the middle, as that of LibTorch. Sums that miss 0.9 by the rounding of float64 reach it.
///
/// Computed in float64; the tensors are on the CPU. H heads.
///
/// Source: Ramsauer et al. 2021, figure 2 and appendix A.5.
struct HeadClasses {
  at::Tensor classes;       ///< [H] int64: 1 to 4 for the classes I to IV; 0 without a query that counts
  at::Tensor median_share;  ///< [H] float64, the median of k90 / live keys; NaN without a query that counts
  at::Tensor median_k90;    ///< [H] float64, the median of k90; NaN without a query that counts
  at::Tensor entropy;       ///< [H] float64, mean over the queries, in nats; of weights divided by their sum
  at::Tensor histogram;     ///< [H, K + 1] int64, how many queries have the k90 of the column; K: the largest k90
  at::Tensor queries;       ///< [H] int64, how many queries count
  at::Tensor class_four_possible;  ///< [H] bool: whether live keys are enough for class IV, the median being 32 or more

  /// A sentence that names the heads whose queries have too few live keys for class IV; empty if there are none.
  std::string note() const;
};

/// "I", "II", "III" or "IV"; "none" for 0.
/// @throws c10::Error for another number.
const char* head_class_name(int64_t head_class);

/// Classifies heads by their weights, which may be those of any attention.
///
///     auto heads = hopfield::theory::classify_heads(association, {padding_mask});
///     heads.classes[0].item<int64_t>();   // 4: the first head attends to few keys
///
/// @param association  [N, H, L, S], or [H, L, S] without a batch; finite and not negative where a query may attend,
/// and
///                     anything elsewhere. A row need not sum to 1.
/// @param masks        keys that do not count: padding mask [N, S] or [S], bool; association mask [L, S],
///                     [N * H, L, S] or [N or 1, H or 1, L or 1, S], of which true or -inf excludes; key bias
///                     [N or 1, S] or [S], of which -inf excludes;
///                     is_causal
/// @throws c10::Error  if a tensor has another shape or dtype, and for weights that are negative or not finite.
HeadClasses classify_heads(const at::Tensor& association, const Masks& masks = {}, const HeadOptions& options = {});

/// The same from scores, whose weights are exp(scores - logsumexp): softmax and softmax1, but not the sparse
/// separations. Scores of -inf exclude their keys, as masks do.
///
/// @param scores     [N, H, L, S], or [H, L, S]
/// @param logsumexp  [N, H, L], or [H, L], as RetrieveResult has it
HeadClasses classify_heads_by_scores(const at::Tensor& scores, const at::Tensor& logsumexp, const Masks& masks = {},
                                     const HeadOptions& options = {});

/// The same for bags of different sizes, one after the other, in the form of AssociationResult::association for ragged
/// patterns and of the scores of HopfieldPooling::instance_scores(). Empty bags do not count.
///
/// @param association  [total, H, L]
/// @param offsets      [N + 1] integers: bag n owns the rows offsets[n] .. offsets[n + 1]
/// @param key_bias     [total], of which -inf excludes; undefined: none
/// @throws c10::Error  as above, if the options have a query_mask, and if the offsets do not fit; see bag_sizes().
HeadClasses classify_heads_of_bags(const at::Tensor& association, const at::Tensor& offsets,
                                   const at::Tensor& key_bias = {}, const HeadOptions& options = {});

/// The heads of a layer for given patterns. The association is computed for a tile of queries at a time, each of which
/// projects the stored patterns again, and is never held as a whole; only the stop rule per_head, which looks at all
/// queries at once, needs it in one piece. Keys that the layer appends are live. In the self-association of padded
/// sequences, where state and stored are the same tensor, the padding does not count among the queries either, unless
/// the options have a query_mask. Without gradient.
///
///     auto heads = hopfield::theory::classify_heads(layer, {x, x}, {padding_mask});
///
/// @param input  as for layer->associate()
/// @param masks  as for layer->associate()
HeadClasses classify_heads(nn::Hopfield layer, const nn::AssociationInput& input, const Masks& masks = {},
                           const HeadOptions& options = {});

}  // namespace hopfield::theory

#undef HOPFIELD_OPTION
