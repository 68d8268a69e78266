#include "kernels/cpu/backward_tile.h"

#include <algorithm>
#include <vector>

namespace hopfield::kernels {
namespace {

/// Tiles of one set that share a sum of pattern gradients; a large set has several, added up at the end.
struct Group {
  int64_t set, first_row, end_row;
  int64_t place;  ///< of its sums
};

/// Tiles that take a step together before the next step begins.
constexpr int64_t kTilesTogether = 4;

/// How many groups: by the set's own size alone, and so that their sums stay small.
int64_t groups_of(const PatternSet& set) {
  constexpr int64_t kMostGroups = 8, kMostKeys = 1 << 16;
  const auto fitting = std::clamp<int64_t>(kMostKeys / std::max<int64_t>(set.keys, 1), 1, kMostGroups);
  return std::clamp<int64_t>(set.rows / (kTilesTogether * kTileRows), 1, fitting);
}

class Backward {
 public:
  Backward(const RetrieveProblem& problem, const RetrieveGradients& gradients, const Parallel& parallel)
      : p_(problem),
        g_(gradients),
        parallel_(parallel),
        stored_(problem, true, parallel),
        own_values_(problem.own_values),
        depth_room_(padded(p_.depth)),
        width_room_(own_values_ ? padded(p_.width) : 0) {
    int64_t size = 0;
    for (size_t i = 0; i < stored_.sets().size(); ++i) {
      const auto& set = stored_.sets()[i];
      const auto tiles = (set.rows + kTileRows - 1) / kTileRows;
      const auto count = groups_of(set);
      first_group_.push_back(static_cast<int64_t>(groups_.size()));
      for (int64_t j = 0; j < count; ++j) {
        groups_.push_back({static_cast<int64_t>(i), tiles * j / count * kTileRows,
                           std::min(set.rows, tiles * (j + 1) / count * kTileRows), size});
        if (wants_patterns() && !is_direct(set)) size += padded(set.keys * (depth_room_ + width_room_));
      }
    }
    first_group_.push_back(static_cast<int64_t>(groups_.size()));
    sums_.resize(size);
  }

  void run() {
    int64_t blocks = 0;
    for (const auto& set : stored_.sets()) blocks = std::max(blocks, stored_.blocks(set));
    const bool all_small = std::all_of(groups_.begin(), groups_.end(), [](const Group& group) {
      return group.end_row - group.first_row <= kTilesTogether * kTileRows;
    });
    constexpr size_t kFewGroups = 16;
    // Any way gives the same bits.
    if (groups_.size() < kFewGroups && blocks > 1 && all_small) {
      run_together();
    } else {
      parallel_(static_cast<int64_t>(groups_.size()), [this](int64_t group) { run_group(groups_[group]); });
    }
    if (wants_patterns()) write_patterns();
  }

 private:
  /// Keys without a number have no address.
  bool wants_patterns() const { return g_.stored.data != nullptr || g_.values.data != nullptr; }

  /// Whether the sums can stand in the result's own memory.
  bool is_direct(const PatternSet& set) const {
    return p_.type == Type::float32 && groups_of(set) == 1 && p_.depth == depth_room_ &&
           (!own_values_ || p_.width == width_room_);
  }

  PatternGradients sums(const Group& group) const {
    const auto& set = stored_.sets()[group.set];
    const auto place = [&](const Tensor4& target) {
      return reinterpret_cast<float*>(address(target, p_.type, set.batch, set.head, set.first));
    };
    if (is_direct(set)) {
      return {place(g_.stored), own_values_ ? place(g_.values) : nullptr, g_.stored.row, g_.values.row};
    }
    float* keys = sums_.data() + group.place;
    return {keys, own_values_ ? keys + set.keys * depth_room_ : nullptr, depth_room_, width_room_};
  }

  void clear(const Group& group, int64_t first, int64_t count) const {
    const auto to = sums(group);
    for (auto i = first; i < first + count; ++i) {
      std::fill_n(to.keys + i * to.key_row, depth_room_, 0.0f);
      if (own_values_) std::fill_n(to.values + i * to.value_row, width_room_, 0.0f);
    }
  }

  /// Whether the gradient of all steps is written in one last pass: for a pool's few rows.
  bool is_in_one_pass(const PatternSet& set) const {
    constexpr int64_t kMostRows = 512;
    return p_.map != nullptr && set.rows <= kTileRows && 2 * set.rows * (g_.most_steps + 1) <= kMostRows;
  }

  /// What a block adds in one step of one tile.
  void add_block(BackwardTile& tile, const Group& group, int64_t step, int64_t block, float* product) const {
    if (!wants_patterns()) {
      tile.add_block(block, nullptr, product);
      return;
    }
    const auto to = sums(group);
    if (!is_in_one_pass(stored_.sets()[group.set])) {
      tile.add_block(block, &to, product);
    } else if (step > 0) {
      tile.add_block(block, nullptr, product);
    } else {
      tile.add_all_patterns(block, to.keys, to.key_row, product);
    }
  }

  void run_group(const Group& group) const {
    const auto& set = stored_.sets()[group.set];
    if (wants_patterns() && !is_in_one_pass(set)) clear(group, 0, set.keys);
    std::vector<BackwardTile> tiles;
    for (int64_t row = group.first_row; row < group.end_row; row += kTilesTogether * kTileRows) {
      begin_tiles(group, row, tiles);
      for (int64_t step = g_.most_steps; step >= 0; --step) {
        for (auto& tile : tiles) {
          if (!tile.skips(step)) run_step(tile, group, step);
        }
      }
      for (const auto& tile : tiles) tile.finish();
    }
  }

  void run_step(BackwardTile& tile, const Group& group, int64_t step) const {
    tile.begin_step(step);
    tile.clear_product();
    const auto blocks = stored_.blocks(stored_.sets()[group.set]);
    thread_local Buffer product;
    product.resize(kTileRows * depth_room_);
    for (int64_t block = 0; block < blocks; ++block) {
      add_block(tile, group, step, block, product.data());
      tile.add_product(product.data());
    }
    tile.finish_step();
  }

  /// The next tiles of a group, reusing the memory of those before.
  void begin_tiles(const Group& group, int64_t row, std::vector<BackwardTile>& tiles) const {
    const auto rows = std::min(group.end_row - row, kTilesTogether * kTileRows);
    const auto count = static_cast<size_t>((rows + kTileRows - 1) / kTileRows);
    while (tiles.size() > count) tiles.pop_back();
    while (tiles.size() < count)
      tiles.emplace_back(p_, g_, stored_, wants_patterns() && is_in_one_pass(stored_.sets()[group.set]));
    for (size_t i = 0; i < count; ++i) {
      tiles[i].begin(group.set, row + static_cast<int64_t>(i) * kTileRows, group.end_row);
    }
  }

  /// Few queries and many keys: threads share the blocks of each step.
  void run_together() const {
    struct Part {
      int64_t group, block, product;
    };
    std::vector<std::vector<BackwardTile>> tiles(groups_.size());
    std::vector<Part> parts;
    int64_t count = 0;
    for (size_t i = 0; i < groups_.size(); ++i) {
      begin_tiles(groups_[i], groups_[i].first_row, tiles[i]);
      const auto blocks = stored_.blocks(stored_.sets()[groups_[i].set]);
      for (int64_t block = 0; block < blocks; ++block) {
        parts.push_back({static_cast<int64_t>(i), block, count});
        count += static_cast<int64_t>(tiles[i].size());
      }
    }
    const auto size = kTileRows * depth_room_;
    const Buffer products(count * size);
    const auto for_all_tiles = [&](const auto& call) {
      for (auto& group : tiles) {
        for (auto& tile : group) call(tile);
      }
    };
    const auto block_rows = stored_.chunk_size() * kChunksInBlock;
    for (int64_t step = g_.most_steps; step >= 0; --step) {
      for_all_tiles([&](BackwardTile& tile) { tile.begin_step(step); });
      parallel_(static_cast<int64_t>(parts.size()), [&](int64_t i) {
        const auto& part = parts[i];
        const auto& group = groups_[part.group];
        const auto first = part.block * block_rows;
        const auto& set = stored_.sets()[group.set];
        if (wants_patterns() && step == g_.most_steps && !is_in_one_pass(set))
          clear(group, first, std::min(block_rows, set.keys - first));
        for (size_t j = 0; j < tiles[part.group].size(); ++j) {
          add_block(tiles[part.group][j], group, step, part.block,
                    products.data() + (part.product + static_cast<int64_t>(j)) * size);
        }
      });
      for_all_tiles([](BackwardTile& tile) { tile.clear_product(); });
      for (const auto& part : parts) {
        for (size_t j = 0; j < tiles[part.group].size(); ++j) {
          tiles[part.group][j].add_product(products.data() + (part.product + static_cast<int64_t>(j)) * size);
        }
      }
      for_all_tiles([](BackwardTile& tile) { tile.finish_step(); });
    }
    for_all_tiles([](const BackwardTile& tile) { tile.finish(); });
  }

  /// Adds a set's groups in order and writes the patterns' gradients.
  void write_patterns() const {
    struct Piece {
      int64_t set, first, count;
    };
    std::vector<Piece> pieces;
    const auto rows = stored_.chunk_size() * kChunksInBlock;
    for (size_t i = 0; i < stored_.sets().size(); ++i) {
      const auto keys = stored_.sets()[i].keys;
      const auto& set = stored_.sets()[i];
      if (is_direct(set) && (!p_.normalize || is_in_one_pass(set))) continue;  // written already
      for (int64_t first = 0; first < keys; first += rows) {
        pieces.push_back({static_cast<int64_t>(i), first, std::min(rows, keys - first)});
      }
    }
    parallel_(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
      const auto& piece = pieces[i];
      const auto& set = stored_.sets()[piece.set];
      const auto begin = first_group_[piece.set], end = first_group_[piece.set + 1];
      const auto write = [&](float* PatternGradients::*member, int64_t PatternGradients::*row_member, int64_t room,
                             int64_t width, const Tensor4& target) {
        const auto first = sums(groups_[begin]);
        const auto row = first.*row_member;
        float* sum = first.*member + piece.first * row;
        for (auto group = begin + 1; group < end; ++group) {
          const float* added = sums(groups_[group]).*member + piece.first * room;
          for (int64_t k = 0; k < piece.count * room; ++k) sum[k] += added[k];
        }
        if (p_.normalize && !is_in_one_pass(set)) add_normalization(piece.set, piece.first, piece.count, sum, row);
        if (is_direct(set)) return;
        tile_ops().store(sum, row, piece.count, width,
                         address(target, p_.type, set.batch, set.head, set.first + piece.first), p_.type, target.row);
      };
      write(&PatternGradients::keys, &PatternGradients::key_row, depth_room_, p_.depth, g_.stored);
      if (own_values_) write(&PatternGradients::values, &PatternGradients::value_row, width_room_, p_.width, g_.values);
    });
  }

  /// From the gradient of normalised patterns to that of the patterns as they came.
  void add_normalization(int64_t set, int64_t first, int64_t count, float* gradient, int64_t row) const {
    thread_local Buffer scratch;
    scratch.resize(stored_.scratch_size());
    for (int64_t i = 0; i < count; i += stored_.chunk_size()) {
      const auto chunk = stored_.chunk(set, (first + i) / stored_.chunk_size(), scratch.data());
      tile_ops().normalize_gradient(chunk.keys, chunk.count, p_.depth, stored_.moments(stored_.sets()[set], first + i),
                                    gradient + i * row, row);
    }
  }

  const RetrieveProblem& p_;
  const RetrieveGradients& g_;
  const Parallel& parallel_;
  const Stored stored_;
  const bool own_values_;
  const int64_t depth_room_, width_room_;
  std::vector<Group> groups_;
  std::vector<int64_t> first_group_;
  Buffer sums_;
};

}  // namespace

void retrieve_backward(const RetrieveProblem& problem, const RetrieveGradients& gradients, const Parallel& parallel) {
  Backward(problem, gradients, parallel).run();
}

}  // namespace hopfield::kernels
