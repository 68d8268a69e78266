#pragma once

#include <hopfield/ops/retrieve.h>

#include <optional>
#include <string>

namespace hopfield {

/// Few queries, and the raw instances y that they retrieve from. Their keys W_h y + b_h are never formed. N bags, H
/// heads, L queries, S instances.
struct PoolInput {
  at::Tensor state = {};      ///< queries in association space [N or 1, H, L, d]
  at::Tensor instances = {};  ///< y [N, S, d_in]; with offsets: ragged [total, d_in]
  at::Tensor weight = {};     ///< W [H, d, d_in]
  at::Tensor bias = {};       ///< b [H, d], or undefined
  Masks masks = {};           ///< ragged instances take the key bias alone
  /// [N + 1] integers: bag n owns the rows offsets[n] .. offsets[n + 1]; undefined: dense. Those on a GPU are read back
  /// to be checked, those on the CPU are sent to the GPU without waiting for it.
  at::Tensor offsets = {};
  /// Instances are first normalised by LayerNorm without weight and bias, with this eps; without a value: not at all.
  std::optional<double> normalize_eps = {};
};

/// The results of retrieve(), with instances in place of values.
struct PoolResult : RetrieveResult {
  // output: sum of the (normalised) instances, weighted by the final association [N, H, L, d_in].
  // scores: beta xi_T . (W y + b), masked [N, H, L, S], ragged [total, H, L], with_scores().
  at::Tensor mass;  ///< sum of that association [N, H, L]: 1, for softmax1 less; for an empty bag 0; changed by dropout
};

/// Makes T updates of the queries and returns the mean instance under the final association. The read-out of any
/// projection V = y W_V + b_V follows from it: Z = output W_V + mass b_V. This takes less work and memory than
/// retrieve() on projected patterns when L (T + 1) < d d_in / (d_in - d).
///
///     auto r = hopfield::pool({queries, instances, W_K, b_K, {}, offsets}, RetrieveOptions().fixed_steps(3));
///
/// Source: Ramsauer et al. 2021, equation (10), with W_K moved from the patterns to the queries.
///
/// CUDA graphs may hold the forward and the backward pass of calls with a number of updates. While a graph is captured,
/// until_converged() is refused, since it reads values, and so is dropout, whose seed is drawn on the host and would be
/// the same in each replay. Ragged bags need the fused kernels and offsets on the GPU; replays may find other offsets
/// there, which are not checked.
///
/// Python: torch.ops.hopfield.pool, with instances, state, weight and bias first and all else by name.
///
/// @throws c10::Error naming the argument, what was expected and what came; with_energy() is refused, since the energy
/// needs the keys' norms.
PoolResult pool(const PoolInput& input, const RetrieveOptions& options = {});

/// Why the fused kernels would not serve this call; nothing if they would.
std::optional<std::string> why_not_fused(const PoolInput& input, const RetrieveOptions& options = {});

/// What serves this call, in a sentence: LibTorch operations and why, or the fused kernels of which device. On a GPU it
/// also says up to how many instances a bag is read only once for all updates.
std::string describe_backend(const PoolInput& input, const RetrieveOptions& options = {});

}  // namespace hopfield
