#pragma once

#include "kernels/cpu/retrieve.h"
#include "kernels/cpu/retrieve_tiles.h"

#include <functional>
#include <vector>

namespace hopfield::kernels {

/// The gradients of one set's patterns are summed here, in float32 and in rows of padded width.
struct PatternGradients {
  float *keys, *values;  ///< values: null if the stored patterns are read out
  int64_t key_row, value_row;
};

/// Tiles of one set that add to one sum of pattern gradients. A large set has several groups, whose sums are added up
/// at the end.
struct TileGroup {
  int64_t set, first_row, end_row;
  int64_t place;  ///< where its sums begin
};

/// Tiles that take a step together before the next step begins.
constexpr int64_t kTilesTogether = 4;

/// The sums of pattern gradients of all groups of tiles, in the memory of the result where that is possible. Which
/// groups there are depends on the sets alone, so that the sums have the same bits for any number of threads.
class PatternSums {
 public:
  PatternSums(const Call& call, const Gradients& gradients, const PackedPatterns& patterns);

  /// Whether gradients of patterns are wanted. Patterns that hold no number have no address.
  bool wanted() const { return g_.stored.data != nullptr || g_.values.data != nullptr; }
  const std::vector<TileGroup>& groups() const { return groups_; }
  PatternGradients of(const TileGroup& group) const;
  void clear(const TileGroup& group, int64_t first, int64_t count) const;

  /// What is still to be done with the sum of keys, in rows at a distance of `row`, before it is the gradient of a
  /// set's stored patterns.
  using Finish = std::function<void(int64_t set, int64_t first, int64_t count, float* keys, int64_t row)>;
  /// Adds a set's groups in order and writes the patterns' gradients. `finish` may be empty.
  void write(const Parallel& parallel, const Finish& finish) const;

 private:
  /// The number of a set's groups: 1 where there are sets enough for the threads, and never so many that their sums
  /// take much memory.
  int64_t groups_of(const PatternSet& set) const;
  /// Whether a set's gradients can be summed in the memory of the result.
  bool is_direct(const PatternSet& set) const;

  const Call& p_;
  const Gradients& g_;
  const PackedPatterns& patterns_;
  const int64_t padded_stored_, padded_width_;
  std::vector<TileGroup> groups_;
  std::vector<int64_t> first_group_;
  Buffer sums_;
};

}  // namespace hopfield::kernels
