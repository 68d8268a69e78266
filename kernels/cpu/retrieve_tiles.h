#pragma once

#include "kernels/cpu/buffer.h"
#include "kernels/cpu/retrieve.h"
#include "kernels/cpu/tile_ops.h"

#include <algorithm>
#include <vector>

namespace hopfield::kernels {

/// Query rows of a tile.
constexpr int64_t kTileRows = 64;
/// Query rows of a forward tile whose patterns do not fit into the cache: they come from memory half as often.
constexpr int64_t kMostTileRows = 128;
/// Packing the patterns pays from this many rows on, where a row counts once for each step. Fewer rows work on the
/// patterns as they lie in memory.
constexpr int64_t kRowsWorthPacking = 40;
/// The same for sets of no more keys than this.
constexpr int64_t kRowsWorthPackingFew = 8, kFewKeys = 128;
/// Keys are cut into chunks of chunk_rows(), and chunks are grouped into blocks. Partial sums are merged in the order
/// of chunks and blocks, so that results do not depend on which thread computed them.
constexpr int64_t kChunksInBlock = 16;
constexpr int64_t chunk_rows(int64_t width) { return width <= 64 ? 512 : width <= 128 ? 256 : width <= 512 ? 128 : 64; }

/// A set of stored patterns and the queries that retrieve from it.
struct PatternSet {
  int64_t batch, head;  ///< the first batch element and head that use the set
  int64_t first, keys;  ///< its rows among ragged patterns; otherwise `first` is 0
  int64_t queries;      ///< of each batch element
  int64_t rows;         ///< queries of all batch elements and heads that share it
};

/// A tile of queries: those of a set from `first_row` on.
struct TileNumber {
  int64_t set, first_row;
};

/// The indices of a query, and its number among all rows of the call.
struct Row {
  int64_t batch, head, query;
  int64_t place;  ///< its row in the state: the query, or behind those of other bags
  int64_t index;
};

/// A chunk of a set's patterns, in the form that the products take.
struct Chunk {
  int64_t first, count;
  const float *keys, *values;  ///< rows
  int64_t key_row, value_row;
  const float *keys_transposed, *values_transposed;  ///< panels; null where few rows use the set
  int64_t panel_row;                                 ///< columns of a panel
  const float* key_bias;                             ///< or null
  const float* next;                                 ///< the stored rows of the next chunk in memory, or null
  int64_t next_row;
};

/// The sets of a call and their patterns, which are packed once for all tiles and steps where many rows use them.
class PackedPatterns {
 public:
  /// @param backward  also pack the values for products with gradients
  PackedPatterns(const Call& call, bool backward, const Parallel& parallel);

  const std::vector<PatternSet>& sets() const { return sets_; }
  /// The rows of a set from number `first` on.
  void find_rows(const PatternSet& set, int64_t first, int64_t count, Row* rows) const;
  /// Whether the tiles of a set work on packed copies of its patterns. Small copies stay in the cache.
  bool is_packed(const PatternSet& set) const {
    return set.rows >= (set.keys <= kFewKeys ? few_packed_rows_ : packed_rows_);
  }
  /// Whether a set is a single chunk, which a tile then takes once for all steps.
  bool is_one_chunk(const PatternSet& set) const { return set.keys > 0 && set.keys <= chunk_; }
  int64_t chunk_size() const { return chunk_; }
  int64_t blocks(const PatternSet& set) const;
  int64_t chunks_begin(int64_t block) const { return block * kChunksInBlock; }
  int64_t chunks_end(const PatternSet& set, int64_t block) const;

  /// Query rows of a forward tile.
  int64_t tile_rows(const PatternSet& set) const {
    constexpr int64_t kCacheFloats = 1 << 20;
    const bool is_large = set.keys * (padded_stored_ + padded_width_) > kCacheFloats;
    // A tile of a sparse separation holds all scores of its rows.
    return is_large && call_.separation != Separation::entmax ? kMostTileRows : kTileRows;
  }
  /// The forward tiles of all sets.
  std::vector<TileNumber> tiles() const;
  /// Whether the tiles are so few, and their keys so many, that the threads share each of them. Both ways of sharing
  /// the work out give the same bits.
  bool threads_share_tiles(const std::vector<TileNumber>& tiles) const;

  /// @param scratch  memory of scratch_size() floats, for copies of what cannot be used as it lies in memory
  Chunk chunk(int64_t set, int64_t number, float* scratch) const;
  int64_t scratch_size() const { return chunk_ * (2 * (padded_stored_ + padded_width_) + 1); }
  /// The stored patterns (or values) of a set, of a call that is no pool, where they lie as float32 in padded rows.
  /// Where they do not, `first` is null, and load_pattern() makes such a row of one of them.
  struct FloatRows {
    const float* first;
    int64_t row;
  };
  FloatRows float_rows(int64_t set, bool values) const;
  void load_pattern(int64_t set, int64_t key, bool value, float* target) const;
  /// Mean and scale of a set's patterns from number `first` on, where the call normalises them. For a set of a single
  /// tile they are known only of chunks that chunk() has been asked for.
  const float* moments(const PatternSet& set, int64_t first) const {
    return moments_.data() + 2 * (moments_row(set) + first);
  }

 private:
  /// A chunk's rows as they lie in memory, or in `copy`.
  const float* rows(const Strided& patterns, const PatternSet& set, const Chunk& chunk, int64_t width, float* copy,
                    int64_t& row) const;
  /// Whether rows of that width can be used as they lie in memory.
  bool in_place(int64_t width) const { return call_.type == ElementType::float32 && width == padded(width); }
  int64_t moments_row(const PatternSet& set) const { return call_.is_ragged() ? set.first : set.batch * call_.keys; }
  /// Whether the constructor packs the set, since several tiles share it or it is large. Otherwise chunk() does.
  bool is_packed_before(const PatternSet& set) const {
    return is_packed(set) && (set.rows > kTileRows || set.keys > chunk_);
  }
  int64_t panel_row(const PatternSet& set) const { return std::clamp(padded(set.keys), kPadding, tile_ops().panel); }
  void pack(int64_t set, int64_t first, int64_t count);
  void find_moments(const Parallel& parallel);

  const Call& call_;
  bool backward_;
  int64_t chunk_, padded_stored_, padded_width_, packed_rows_, few_packed_rows_;
  std::vector<PatternSet> sets_;
  struct Packed {
    int64_t keys, keys_transposed, values, values_transposed;  ///< places in memory_
  };
  std::vector<Packed> packed_;
  Buffer memory_, moments_;
};

/// x K^T of a chunk [rows, chunk.count] for rows x [rows, padded(stored width)].
void key_products(const Call& call, const Chunk& chunk, const float* x, int64_t row_count, float* target,
                  int64_t target_row);

/// How many of the set's keys at least one of the rows may attend to by the causal mask: the first ones.
int64_t visible_keys(const Call& call, const PatternSet& set, const Row* rows, int64_t row_count);

/// Sets those of the scores [rows, count] to -inf that the causal mask excludes. They belong to the keys from number
/// `first` on; behind the last one, the rest of its vector becomes -inf, too.
void hide_behind_queries(const Call& call, const Row* rows, int64_t row_count, int64_t first, int64_t count,
                         float* scores, int64_t score_row);

/// A chunk of which only the place is known.
inline Chunk hidden_chunk(int64_t first) {
  Chunk chunk{};
  chunk.first = first;
  return chunk;
}

/// What a mask adds to the scores of a tile's rows [rows, count], in float32.
void load_score_mask(const ScoreMask& mask, const Row* rows, int64_t row_count, int64_t first, int64_t count,
                     float* target, int64_t target_row);

/// Multiplies weights [rows, count] by 0 or 1 / (1 - probability), as the seed and each entry's place decide.
void apply_dropout(const Call& call, const Row* rows, int64_t row_count, int64_t first, int64_t count, float* weights,
                   int64_t weight_row);

/// What apply_dropout() multiplies one weight by.
float dropout_factor(const Call& call, const Row& row, int64_t key);

/// x W for a tile's rows of a pool [rows, padded(depth)], each with the map of its head: [rows, padded(width)].
void to_instances(const Call& call, const Row* rows, int64_t row_count, const float* x, float* target);
/// x W^T for rows [rows, padded(width)]: [rows, padded(depth)].
void to_states(const Call& call, const Row* rows, int64_t row_count, const float* x, float* target);

/// Loads a tile's rows [rows, padded(width)] from a tensor like the state [batch, heads, queries, width], or stores
/// them there.
void load_rows(const Strided& tensor, ElementType type, const Row* rows, int64_t row_count, int64_t width,
               float* target);
void store_rows(const float* source, const Strided& tensor, ElementType type, const Row* rows, int64_t row_count,
                int64_t width);

/// Address of row `query` of a tensor [batch, heads, rows, width].
inline char* address(const Strided& tensor, ElementType type, int64_t batch, int64_t head, int64_t row) {
  const int64_t bytes = type == ElementType::float32 ? 4 : 2;
  return static_cast<char*>(tensor.data) + (batch * tensor.batch + head * tensor.head + row * tensor.row) * bytes;
}

/// Memory that a thread works in. Buffers grow to the largest call that the thread has served.
struct Workbench {
  Buffer scores, gradients, mask;  ///< of a chunk [kMostTileRows, keys]; `gradients` also the change of scores
  Buffer values, block;            ///< Partial sums
  Buffer chunk;                    ///< what PackedPatterns::chunk() needs
  Buffer product;                  ///< of a block [kTileRows, padded stored width]
  Buffer all_scores, all_rows;     ///< of all associations of a tile

  static Workbench& of_thread();
  /// Makes room for the chunks of these patterns.
  void fit(const PackedPatterns& patterns);
};

}  // namespace hopfield::kernels
