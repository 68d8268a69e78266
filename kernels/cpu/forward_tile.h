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
  float* change;  ///< sums of TileOps::association_change [4, kMostTileRows]
  float* values;

  static int64_t size(int64_t padded_width) { return kMostTileRows * (padded_width + 7); }
  static Partial in(float* memory) {
    constexpr auto kRows = kMostTileRows;
    return {memory, memory + kRows, memory + 2 * kRows, memory + 3 * kRows, memory + 7 * kRows};
  }
};

/// One tile of queries on its way through the updates.
class ForwardTile {
 public:
  ForwardTile(const Call& call, const Outputs& outputs, const PackedPatterns& patterns);

  void begin(int64_t set, int64_t first_row);
  int64_t set() const { return set_; }
  int64_t row_count() const { return count_; }
  const Row& row(int64_t i) const { return rows_[i]; }

  /// Whether a row is updated in this step, or its last update still has to be compared with the threshold.
  bool wants_step(int64_t step) const;
  /// Called before the first block: multiplies the states by beta, and sets the sums to those of no keys.
  void begin_pass();
  /// Sums over the keys of one block. `last`: the values are summed, otherwise the stored patterns.
  void sum_block(int64_t block, bool last, const Partial& partial) const;
  /// Adds a block's sums to those of the blocks before it.
  void add_block(const Partial& partial, bool last, bool first);
  /// begin_pass(), then sum_block() and add_block() for all blocks.
  void sum_all_blocks(bool last);
  /// Sets the states that are still updated to softmax(beta xi K^T) K.
  void update(int64_t step);
  /// Keeps the present states for the backward pass as those after the updates `step` .. `end` - 1.
  void save_from(int64_t step, int64_t end) const;
  void finish();

  // What the stop rule per_head needs, which compares associations:
  /// Whether a row has moved since its association was compared last.
  bool is_pending(int64_t i) const { return pending_[i]; }
  /// |p - p'|^2 of a pending row, whose association was p' before its last update and is p in the pass just made.
  double squared_change(int64_t i) const;
  /// Sets what the stop rule compares with its threshold, for the row's last update; the row may stop there.
  void set_residual(int64_t i, float residual);

 private:
  Partial total() const { return Partial::in(total_.data()); }
  bool active(int64_t i, int64_t step) const { return !frozen_[i] && step < p_.steps_max[rows_[i].head]; }
  /// Adds the score 0 of softmax1, which belongs to no key, to the sums over all keys, whose values have this row
  /// width.
  void add_one_more_score(int64_t width);
  /// The sums of rows that see no key of a chunk.
  void sum_nothing(const Partial& partial, int64_t width) const;
  bool is_dead(int64_t i) const;
  void die(int64_t i);
  bool any_pending() const;
  /// Scores of a chunk, and -inf for those keys of it that no row sees.
  void write_scores(const Chunk& chunk, int64_t keys_row) const;
  void save_sums(int64_t i, int64_t step) const;

  const Call& p_;
  const Outputs& out_;
  const PackedPatterns& patterns_;
  const int64_t padded_stored_, padded_width_, padded_depth_;
  int64_t set_ = 0, count_ = 0;
  int64_t visible_ = 0;  ///< keys that a row sees: the first ones
  Row rows_[kMostTileRows];
  float beta_[kMostTileRows], residual_[kMostTileRows];
  int64_t steps_[kMostTileRows];
  bool frozen_[kMostTileRows], pending_[kMostTileRows];
  Buffer state_, next_, scaled_, total_, kept_memory_;
  Chunk kept_{};
  // Where associations are compared: how far `scaled` has moved, the mean pattern under the association before, the
  // mean change of scores under that association, and its logsumexp.
  Buffer change_, mean_;
  float expected_[kMostTileRows], before_[kMostTileRows];
};

}  // namespace hopfield::kernels
