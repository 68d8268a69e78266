#pragma once

#include "kernels/cpu/pattern_sums.h"
#include "kernels/cpu/retrieve.h"
#include "kernels/cpu/retrieve_tiles.h"

#include <vector>

// With P = softmax(beta xi_t K^T), g the gradient of what the association gave (Z, or xi_{t+1}), dP = g V^T (or g K^T):
//
//     dS     = P * (dP - D)
//     D      = rowsum(dP * P) = g . Z (or g . xi_{t+1}), minus the gradient of logsumexp
//     dxi_t  = beta dS K
//     dV    += P^T g              (dK for an update)
//     dK    += beta dS^T xi_t
//     dbeta += xi_t . (dS K)
//
// P is computed again from the saved states and sums. Where P is nearly one-hot, dP - D is a difference of nearly equal
// numbers, which beta then multiplies. So D has to have the same rounding errors as dP: it is summed from the very
// products it is subtracted from, or, where these come chunk by chunk, from vectors in the same order of summation.

namespace hopfield::kernels {

/// A tile of queries during the backward pass, from the last association to the first.
class BackwardTile {
 public:
  /// @param keep_all  the associations of all steps are kept until the end, for add_all_patterns()
  BackwardTile(const Call& call, const Gradients& gradients, const PackedPatterns& patterns, bool keep_all);

  void begin(int64_t set, int64_t first_row, int64_t end_row);
  /// Whether no row of the tile has a gradient that passes through this step's association.
  bool skips(int64_t step) const;
  /// Prepares the association that made the output (step T) or the state after `step`.
  void begin_step(int64_t step);
  /// Takes one block of keys: adds to the patterns' gradients, if they are given, and writes dS K of the rows to
  /// `product` [rows, padded(depth)].
  void add_block(int64_t block, const PatternGradients* gradients, float* product);
  /// The same for a pool whose associations have all been kept: one pass over a block's instances writes their gradient
  /// of all steps, to rows at a distance of gradient_row, and dS K of step 0.
  void add_all_patterns(int64_t block, float* gradient, int64_t gradient_row, float* product);
  void clear_product();
  void add_product(const float* product);
  /// Called after all blocks: passes the gradient on to the state before the update.
  void finish_step();
  void finish() const;

 private:
  /// One association of the rows: what it was computed from, and the gradient of its result.
  struct Association {
    int64_t step;
    int64_t incoming_row;
    Buffer scaled, incoming;  ///< beta xi_t (W), [rows, depth]; g [rows, width or depth]
    float largest[kTileRows], sum[kTileRows], mean[kTileRows], extra[kTileRows];
  };

  bool is_last() const { return step_ == p_.most_steps; }
  int64_t steps(int64_t i) const { return g_.steps[rows_[i].index]; }
  /// Whether a gradient passes the row's update after `step`.
  bool passes(int64_t i, int64_t step) const { return step < steps(i) && step >= steps(i) - g_.last_steps; }
  Association& current() { return associations_[associations_.size() > 1 ? static_cast<size_t>(step_) : 0]; }
  void take_carried(float* incoming);
  Chunk take_chunk(int64_t number) const;
  /// P of a chunk, as it was read out (after dropout), and dS.
  void associate(const Association& a, const Chunk& chunk, float* weights, float* gradients) const;
  /// The state after `step` > 0 updates.
  void load_state(int64_t i, int64_t step, float* target) const;
  /// x . y, in the order in which products() sums.
  float product(const float* x, const float* y, int64_t width) const;
  /// x K^T of a chunk, or x V^T. Meanwhile the rows at `next` are brought into the cache.
  void products(const float* x, int64_t x_row, const Chunk& chunk, bool with_values, const float* next, float* target,
                int64_t target_row) const;

  const Call& p_;
  const Gradients& g_;
  const PackedPatterns& patterns_;
  const int64_t padded_stored_, padded_width_, padded_depth_, padded_widest_;
  int64_t set_ = 0, count_ = 0, step_ = 0;
  int64_t visible_ = 0;  ///< keys that a row sees: the first ones
  Row rows_[kTileRows];
  float beta_[kTileRows], beta_gradient_[kTileRows];
  Buffer state_, carried_, total_, mapped_;
  std::vector<Association> associations_;
  Buffer kept_memory_;
  Chunk kept_{};
};

}  // namespace hopfield::kernels
