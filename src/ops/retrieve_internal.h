#pragma once

#include "ops/op_call.h"

#include <torch/custom_class.h>

#include <functional>
#include <initializer_list>
#include <utility>

namespace hopfield::detail {

/// Throws if one of the tensors is sparse or nested. The message begins with `function`.
void check_layouts(const char* function, std::initializer_list<std::pair<const char*, const at::Tensor*>> tensors);

/// Throws unless the number of steps, the thresholds and the gradient mode fit together. The message begins with
/// `function`.
void check_iteration(const char* function, const IterationSettings& settings, const c10::SymInt& heads);

/// Whether any head makes an update at all.
bool makes_updates(const IterationSettings& settings);

/// Whether updates are made whose stop rule compares whole associations.
inline bool stops_per_head(const IterationSettings& settings) {
  return settings.stop_rule == StopRule::per_head && makes_updates(settings);
}

/// Whether updates are made whose gradient is implicit.
inline bool has_implicit_gradient(const IterationSettings& settings) {
  return settings.gradient.kind() == Gradient::Kind::implicit && makes_updates(settings);
}

/// The beta of a call that gives none, for queries of width `depth`.
double default_beta(int64_t depth);

/// The sizes of a call with any number of dimensions. They are symbols in place of numbers where a call is recorded for
/// any length (torch.compile, torch.export).
struct CallSizes {
  const char* function;  ///< what messages begin with
  int64_t dimensions;    ///< of the state; of a ragged state: the number it would have if it were dense
  c10::SymInt batch, heads, queries, keys, depth;
  bool ragged;
};

/// Throws unless offsets, masks and settings are valid and fit the sizes of the patterns. Of the patterns, `input`
/// needs to have the state alone.
void check_beyond_patterns(const RetrieveInput& input, const RetrieveSettings& settings, const CallSizes& sizes);

/// Throws unless the call is valid: every tensor then has one of the shapes that RetrieveInput names.
void check_retrieve(const RetrieveInput& input, const RetrieveSettings& settings);

/// The call with its missing dimensions: patterns [N, H, L, d], ragged ones [total, H, d], masks [N, H, L, S] with ones
/// where they are shared. Needs a checked input, whose queries are dense or padded.
RetrieveInput with_all_dimensions(RetrieveInput input);

/// Removes them again from a result of patterns that had `dimensions`.
RetrieveResult without_added_dimensions(RetrieveResult result, int64_t dimensions, bool ragged);

/// The whole op in plain LibTorch operations: fallback, oracle and double backward. Needs all dimensions.
/// @param seed  of the dropout mask
RetrieveResult retrieve_composite(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed);

/// The op pool likewise: keys are formed, and retrieve_composite() reads the instances out.
PoolResult pool_composite(const OpCall& pool);

/// retrieve_composite() for dense patterns. `first_n` is the position of the first batch element among the bags, for
/// the dropout mask.
RetrieveResult retrieve_dense(const RetrieveInput& input, const RetrieveSettings& settings, uint64_t seed,
                              int64_t first_n);

/// The energy of dense states, from what a retrieval gave.
at::Tensor retrieve_energy(const RetrieveInput& input, const RetrieveSettings& settings, const at::Tensor& state,
                           const at::Tensor& logsumexp);

/// Draws the seed of a dropout mask from the generator, or from LibTorch's default one.
uint64_t draw_seed(const at::Generator& generator);

/// J, the Jacobian of one update at a fixed point.
struct UpdateJacobian : torch::CustomClassHolder {
  /// The product v -> J v of rows [N, H, L, d], for one solution of the system.
  using Product = std::function<at::Tensor(const at::Tensor&)>;
  virtual Product product(const std::vector<at::Tensor>& tensors) const = 0;

  std::vector<at::Tensor> tensors;  ///< what it is computed from; autograd saves them and gives them to product()
};

/// The fixed point as a function that autograd differentiates implicitly. Its value is `fixed_point`. In the backward
/// pass, the gradient g of a row that has `converged` [N, H, L, 1] becomes the solution u of (I - J) u = g, which goes
/// on to `refined`, one differentiable update at the fixed point; g of other rows goes on unchanged. The query receives
/// zeros.
at::Tensor implicit_state(const at::Tensor& fixed_point, const at::Tensor& refined, const at::Tensor& query,
                          const at::Tensor& converged, const c10::intrusive_ptr<UpdateJacobian>& jacobian);

/// [N, H, L, S]: 1 / (1 - probability) for entries that stay, 0 for those that are dropped. Entry (n, h, l, s) depends
/// on the seed and on (first_n + n, h, l, s) alone.
at::Tensor dropout_factors(at::IntArrayRef shape, double probability, uint64_t seed, int64_t first_n,
                           const at::TensorOptions& options);

}  // namespace hopfield::detail
