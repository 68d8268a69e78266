#pragma once

#include "kernels/cpu/retrieve.h"
#include "kernels/cpu/retrieve_tiles.h"

namespace hopfield::kernels {

/// Sums over keys for the rows of a tile: `largest` score, `sum` of exponentials, weighted `values`. Several of them
/// merge into one. A row without keys has largest -inf and sum 0.
struct Partial {
  float* largest;
  float* sum;
  float* kept;    ///< the sum of what dropout leaves
  float* change;  ///< sums of TileOps::association_change [4, kTileRows]
  float* values;

  static int64_t size(int64_t room) { return kTileRows * (room + 7); }
  static Partial in(float* memory) {
    return {memory, memory + kTileRows, memory + 2 * kTileRows, memory + 3 * kTileRows, memory + 7 * kTileRows};
  }
};

/// One tile of queries on its way through the updates.
class ForwardTile {
 public:
  ForwardTile(const RetrieveProblem& problem, const RetrieveOutputs& outputs, const Stored& stored, int64_t most_steps);

  void begin(int64_t set, int64_t first_row);
  int64_t set() const { return set_; }
  int64_t row_count() const { return count_; }
  const Row& row(int64_t i) const { return rows_[i]; }

  /// Whether a row moves in this step, or waits for its last move to be measured.
  bool wants_step(int64_t step) const;
  /// Before the first block: what a tile without any keys has, and the states times beta.
  void begin_pass();
  /// Sums over the keys of one block. `last`: values are read out.
  void sum_block(int64_t block, bool last, const Partial& partial) const;
  /// Adds a block's sums to those of the blocks before it.
  void add_block(const Partial& partial, bool last, bool first);
  /// The three of them for all blocks.
  void sum_all_blocks(bool last);
  /// Moves the states that are still on their way to softmax(beta xi K^T) K.
  void update(int64_t step);
  /// The states stand still from `step` on: what the backward pass will look for.
  void save_from(int64_t step, int64_t end) const;
  void finish();

  // Of the stop rule that compares associations:
  /// Whether a row has moved since its association was compared last.
  bool is_pending(int64_t i) const { return pending_[i]; }
  /// |p - p'|^2 of a pending row: its association, in the pass just made, against the one before.
  double squared_change(int64_t i) const;
  /// A pending row's head has moved that far; it stops there if that is little.
  void set_residual(int64_t i, float residual);

 private:
  Partial total() const { return Partial::in(total_.data()); }
  int64_t total_rows() const { return p_.batch * p_.heads * p_.queries; }
  bool active(int64_t i, int64_t step) const { return !frozen_[i] && step < p_.steps_max[rows_[i].head]; }
  bool is_dead(int64_t i) const;
  void die(int64_t i);
  bool any_pending() const;
  /// x K^T of a chunk for rows x [rows, padded(depth)].
  void products(const float* x, const Chunk& chunk, float* target, int64_t target_row) const;
  void write_scores(const Chunk& chunk, int64_t keys_row) const;
  void save_sums(int64_t i, int64_t step) const;

  const RetrieveProblem& p_;
  const RetrieveOutputs& out_;
  const Stored& stored_;
  const int64_t most_steps_of_all_, depth_room_, width_room_, state_depth_, state_room_;
  int64_t set_ = 0, count_ = 0;
  Row rows_[kTileRows];
  float beta_[kTileRows], residual_[kTileRows];
  int64_t steps_[kTileRows];
  bool frozen_[kTileRows], pending_[kTileRows];
  Buffer state_, next_, scaled_, total_, kept_memory_;
  Chunk kept_{};
  // Where associations are compared: how far `scaled` moved, the mean under the association before, the change of
  // scores that this mean expects, and that association's logsumexp.
  Buffer change_, mean_;
  float expected_[kTileRows], before_[kTileRows];
};

}  // namespace hopfield::kernels
