#pragma once

#include "kernels/cpu/retrieve.h"
#include "kernels/cpu/retrieve_tiles.h"

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

// entmax(alpha) of scores t, of which sparsemax is alpha = 2. With z_i = (alpha - 1) (t_i - max t) the weights are
//
//     y_i = r_i / R,    r_i = [1 + z_i / c]_+^p,    R = sum r,    p = 1 / (alpha - 1),
//
// where 0 < c <= 1 solves c R^(1 / p) = 1. A weight is positive where z_i > -c only. So one pass over the keys lists
// those with z_i > -1 for the largest score found so far, and all that follows works on this list alone.
//
// c is found by Newton's method, which falls from 1 towards the root of a convex function; what is below -c on the way
// leaves the list. For sparsemax this ends at the very root, when nothing leaves the list any more.

namespace hopfield::kernels {

/// Keys of a row that may have a weight, in their order, and their scores.
class Candidates {
 public:
  /// @param largest  a lower bound of the row's largest score
  /// @param keys     the number of all keys
  void begin(float largest, int64_t keys);
  /// Adds those of `count` scores that are less than `margin` below the largest score so far, and takes others off the
  /// list when it grows long. `chunk_largest` is the largest of the scores.
  void add(const float* scores, int64_t count, float chunk_largest, int64_t first, double margin);
  /// Adds the list of the keys that follow.
  void append(const Candidates& more);
  /// Takes off the list what is `distance` below the largest score, or slightly more.
  void keep_within(double distance);
  void keep_positive() { count_ = tile_ops().keep_scores(scores_.data(), keys_.data(), count_, 0.0f); }
  /// All keys, each with this score.
  void fill(float score);

  int64_t count() const { return count_; }
  float largest() const { return largest_; }
  float* scores() { return scores_.data(); }
  const float* scores() const { return scores_.data(); }
  const uint32_t* keys() const { return keys_.data(); }

 private:
  void make_room(int64_t count, float above);
  void reserve(int64_t entries);
  float above(double distance) const;

  std::vector<float> scores_;
  std::vector<uint32_t> keys_;
  int64_t count_ = 0, all_keys_ = 0;
  float largest_ = -std::numeric_limits<float>::infinity();
};

/// The associations of a tile of queries with one set. Rows are taken in two phases: collect() for all of them, and
/// then solve() for each, by any thread.
class SparseAssociation {
 public:
  SparseAssociation(const Call& call, const PackedPatterns& patterns) : p_(call), patterns_(patterns) {}

  void begin(int64_t set, const Row* rows, int64_t count);
  /// Whether the next collect() takes a row.
  void want(int64_t i, bool wanted) { wanted_[i] = wanted; }
  /// What solve() found for a row before, from which c is found again.
  void know(int64_t i, float largest, float c);
  /// Lists the candidates of the rows with the states times beta [rows, padded(depth)].
  /// @param scores_to  where the scores are written, or null
  /// @param shared     whether `parallel` has threads
  void collect(const float* scaled, bool last, const Outputs* scores_to, bool shared, const Parallel& parallel);
  /// Turns the candidates of a row into weights, all of them above 0. Nothing is left of a row whose largest score is
  /// not finite.
  void solve(int64_t i);

  bool wanted(int64_t i) const { return wanted_[i]; }
  int64_t count(int64_t i) const { return list(i).count(); }
  const float* weights(int64_t i) const { return list(i).scores(); }
  const uint32_t* keys(int64_t i) const { return list(i).keys(); }
  /// -inf: the row may attend to nothing. NaN or inf: its weights are NaN.
  float largest(int64_t i) const { return list(i).largest(); }
  float c(int64_t i) const { return c_[i]; }
  /// Omega* of the scores.
  float conjugate(int64_t i) const { return conjugate_[i]; }
  bool is_dead(int64_t i) const { return largest(i) == -std::numeric_limits<float>::infinity(); }
  bool is_nan(int64_t i) const { return !std::isfinite(largest(i)) && !is_dead(i); }
  /// Makes of a row's weights what dropout leaves of them.
  void drop(int64_t i);
  /// Gives a row that is_nan() all keys with the weight NaN.
  void fill_with_nan(int64_t i);

  /// The sum of weights[j] times the pattern (or value) of the j-th key of a row: [padded width].
  void sum(int64_t i, const float* weights, bool values, float* target) const;
  /// The product of x and the pattern (or value) of each key of a row.
  void products(int64_t i, const float* x, bool values, float* target) const;
  /// Adds 0 times the patterns (or values) of all other keys, which is NaN where they are not finite. That is looked
  /// for where collect() has met some such pattern. Where masks exist, all patterns are finite.
  void add_zero_weights(int64_t i, bool values, float* target) const;

 private:
  /// What one thread finds in neighbouring chunks.
  struct Part {
    Candidates rows[kTileRows];
    std::vector<float> zeros;  ///< sums of 0 times the patterns
  };

  Candidates& list(int64_t i) { return parts_[0]->rows[i]; }
  const Candidates& list(int64_t i) const { return parts_[0]->rows[i]; }
  void collect_chunks(const float* scaled, bool last, const Outputs* scores_to, int64_t begin, int64_t end, Part& part);
  /// Writes the scores of a chunk, biases included, where the caller wants them.
  /// Those that no row sees are -inf.
  void write_scores(const Outputs& out, const Chunk& chunk, const float* scores, int64_t score_row) const;
  /// c of a list of candidates, on which those with a weight remain. `c` is at least that, or is near to it.
  double root(Candidates& list, double c, bool is_near) const;
  /// Calls `run(first, count, rows)` with the addresses of a row's patterns, a few at a time.
  template <typename Run>
  void for_patterns(int64_t i, bool values, const Run& run) const;

  const Call& p_;
  const PackedPatterns& patterns_;
  const bool checks_ = p_.key_bias == nullptr && !p_.has_mask() && !p_.is_causal;
  bool has_nonfinite_ = false;
  int64_t set_ = 0, count_ = 0, parts_used_ = 0;
  int64_t visible_ = 0;  ///< keys that a row sees: the first ones
  const Row* rows_ = nullptr;
  bool wanted_[kTileRows], is_known_[kTileRows];
  float largest_[kTileRows], c_[kTileRows], conjugate_[kTileRows];
  std::vector<std::unique_ptr<Part>> parts_;
  Buffer kept_memory_;
  Chunk kept_{};
};

}  // namespace hopfield::kernels
