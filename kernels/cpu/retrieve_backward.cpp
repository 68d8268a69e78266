#include "kernels/cpu/backward_tile.h"

#include <algorithm>
#include <vector>

namespace hopfield::kernels {
namespace {

/// Tiles of one set that add to one sum of pattern gradients. A large set has several groups, whose sums are added up
/// at the end.
struct Group {
  int64_t set, first_row, end_row;
  int64_t place;  ///< where its sums begin
};

/// Tiles that take a step together before the next step begins.
constexpr int64_t kTilesTogether = 4;

/// The number of groups. It depends on the size of the set alone, and is small enough for the sums' memory.
int64_t groups_of(const PatternSet& set) {
  constexpr int64_t kMostGroups = 8, kMostKeys = 1 << 16;
  const auto fitting = std::clamp<int64_t>(kMostKeys / std::max<int64_t>(set.keys, 1), 1, kMostGroups);
  return std::clamp<int64_t>(set.rows / (kTilesTogether * kTileRows), 1, fitting);
}

class Backward {
 public:
  Backward(const Call& call, const Gradients& gradients, const Parallel& parallel)
      : p_(call),
        g_(gradients),
        parallel_(parallel),
        patterns_(call, true, parallel),
        padded_stored_(padded(p_.stored_width())),
        padded_width_(p_.has_values() ? padded(p_.width) : 0) {
    int64_t size = 0;
    for (size_t i = 0; i < patterns_.sets().size(); ++i) {
      const auto& set = patterns_.sets()[i];
      const auto tiles = (set.rows + kTileRows - 1) / kTileRows;
      const auto count = groups_of(set);
      first_group_.push_back(static_cast<int64_t>(groups_.size()));
      for (int64_t j = 0; j < count; ++j) {
        groups_.push_back({static_cast<int64_t>(i), tiles * j / count * kTileRows,
                           std::min(set.rows, tiles * (j + 1) / count * kTileRows), size});
        if (wants_patterns() && !is_direct(set)) size += padded(set.keys * (padded_stored_ + padded_width_));
      }
    }
    first_group_.push_back(static_cast<int64_t>(groups_.size()));
    sums_.resize(size);
  }

  void run() {
    int64_t blocks = 0;
    for (const auto& set : patterns_.sets()) blocks = std::max(blocks, patterns_.blocks(set));
    const bool all_small = std::all_of(groups_.begin(), groups_.end(), [](const Group& group) {
      return group.end_row - group.first_row <= kTilesTogether * kTileRows;
    });
    constexpr size_t kFewGroups = 16;
    // Each way of sharing the work out gives the same bits.
    if (groups_.size() < kFewGroups && blocks > 1 && all_small) {
      run_together();
    } else {
      parallel_(static_cast<int64_t>(groups_.size()), [this](int64_t group) { run_group(groups_[group]); });
    }
    if (wants_patterns()) write_patterns();
  }

 private:
  /// Whether gradients of patterns are wanted. Patterns that hold no number have no address.
  bool wants_patterns() const { return g_.stored.data != nullptr || g_.values.data != nullptr; }

  /// Whether a set's gradients can be summed in the memory of the result.
  bool is_direct(const PatternSet& set) const {
    return p_.type == ElementType::float32 && groups_of(set) == 1 && p_.stored_width() == padded_stored_ &&
           (!p_.has_values() || p_.width == padded_width_);
  }

  PatternGradients sums(const Group& group) const {
    const auto& set = patterns_.sets()[group.set];
    const auto place = [&](const Strided& target) {
      return reinterpret_cast<float*>(address(target, p_.type, set.batch, set.head, set.first));
    };
    if (is_direct(set)) {
      return {place(g_.stored), p_.has_values() ? place(g_.values) : nullptr, g_.stored.row, g_.values.row};
    }
    float* keys = sums_.data() + group.place;
    return {keys, p_.has_values() ? keys + set.keys * padded_stored_ : nullptr, padded_stored_, padded_width_};
  }

  void clear(const Group& group, int64_t first, int64_t count) const {
    const auto to = sums(group);
    for (auto i = first; i < first + count; ++i) {
      std::fill_n(to.keys + i * to.key_row, padded_stored_, 0.0f);
      if (p_.has_values()) std::fill_n(to.values + i * to.value_row, padded_width_, 0.0f);
    }
  }

  /// Whether one last pass writes the gradient of all steps, which is possible for the few rows of a pool.
  bool is_in_one_pass(const PatternSet& set) const {
    constexpr int64_t kMostRows = 512;
    return p_.is_pool() && set.rows <= kTileRows && 2 * set.rows * (p_.most_steps + 1) <= kMostRows;
  }

  /// What a block adds in one step of one tile.
  void add_block(BackwardTile& tile, const Group& group, int64_t step, int64_t block, float* product) const {
    if (!wants_patterns()) {
      tile.add_block(block, nullptr, product);
      return;
    }
    const auto to = sums(group);
    if (!is_in_one_pass(patterns_.sets()[group.set])) {
      tile.add_block(block, &to, product);
    } else if (step > 0) {
      tile.add_block(block, nullptr, product);
    } else {
      tile.add_all_patterns(block, to.keys, to.key_row, product);
    }
  }

  void run_group(const Group& group) const {
    const auto& set = patterns_.sets()[group.set];
    if (wants_patterns() && !is_in_one_pass(set)) clear(group, 0, set.keys);
    std::vector<BackwardTile> tiles;
    for (int64_t row = group.first_row; row < group.end_row; row += kTilesTogether * kTileRows) {
      begin_tiles(group, row, tiles);
      for (int64_t step = p_.most_steps; step >= 0; --step) {
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
    const auto blocks = patterns_.blocks(patterns_.sets()[group.set]);
    auto& product = Workbench::of_thread().product;
    product.resize(kTileRows * padded_stored_);
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
      tiles.emplace_back(p_, g_, patterns_, wants_patterns() && is_in_one_pass(patterns_.sets()[group.set]));
    for (size_t i = 0; i < count; ++i) {
      tiles[i].begin(group.set, row + static_cast<int64_t>(i) * kTileRows, group.end_row);
    }
  }

  /// For few queries and many keys: the threads share the blocks of each step.
  void run_together() const {
    struct Part {
      int64_t group, block, product;
    };
    std::vector<std::vector<BackwardTile>> tiles(groups_.size());
    std::vector<Part> parts;
    int64_t count = 0;
    for (size_t i = 0; i < groups_.size(); ++i) {
      begin_tiles(groups_[i], groups_[i].first_row, tiles[i]);
      const auto blocks = patterns_.blocks(patterns_.sets()[groups_[i].set]);
      for (int64_t block = 0; block < blocks; ++block) {
        parts.push_back({static_cast<int64_t>(i), block, count});
        count += static_cast<int64_t>(tiles[i].size());
      }
    }
    const auto size = kTileRows * padded_stored_;
    const Buffer products(count * size);
    const auto for_all_tiles = [&](const auto& call) {
      for (auto& group : tiles) {
        for (auto& tile : group) call(tile);
      }
    };
    const auto block_rows = patterns_.chunk_size() * kChunksInBlock;
    for (int64_t step = p_.most_steps; step >= 0; --step) {
      for_all_tiles([&](BackwardTile& tile) { tile.begin_step(step); });
      parallel_(static_cast<int64_t>(parts.size()), [&](int64_t i) {
        const auto& part = parts[i];
        const auto& group = groups_[part.group];
        const auto first = part.block * block_rows;
        const auto& set = patterns_.sets()[group.set];
        if (wants_patterns() && step == p_.most_steps && !is_in_one_pass(set))
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
    const auto rows = patterns_.chunk_size() * kChunksInBlock;
    for (size_t i = 0; i < patterns_.sets().size(); ++i) {
      const auto keys = patterns_.sets()[i].keys;
      const auto& set = patterns_.sets()[i];
      if (is_direct(set) && (!p_.map.normalize || is_in_one_pass(set))) continue;  // written already
      for (int64_t first = 0; first < keys; first += rows) {
        pieces.push_back({static_cast<int64_t>(i), first, std::min(rows, keys - first)});
      }
    }
    parallel_(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
      const auto& piece = pieces[i];
      const auto& set = patterns_.sets()[piece.set];
      const auto begin = first_group_[piece.set], end = first_group_[piece.set + 1];
      const auto write = [&](float* PatternGradients::*member, int64_t PatternGradients::*row_member,
                             int64_t padded_width, int64_t width, const Strided& target) {
        const auto first = sums(groups_[begin]);
        const auto row = first.*row_member;
        float* sum = first.*member + piece.first * row;
        for (auto group = begin + 1; group < end; ++group) {
          const float* added = sums(groups_[group]).*member + piece.first * padded_width;
          for (int64_t k = 0; k < piece.count * padded_width; ++k) sum[k] += added[k];
        }
        if (p_.map.normalize && !is_in_one_pass(set)) add_normalization(piece.set, piece.first, piece.count, sum, row);
        if (is_direct(set)) return;
        tile_ops().store(sum, row, piece.count, width,
                         address(target, p_.type, set.batch, set.head, set.first + piece.first), p_.type, target.row);
      };
      write(&PatternGradients::keys, &PatternGradients::key_row, padded_stored_, p_.stored_width(), g_.stored);
      if (p_.has_values())
        write(&PatternGradients::values, &PatternGradients::value_row, padded_width_, p_.width, g_.values);
    });
  }

  /// From the gradient of normalised patterns to that of the patterns as they came.
  void add_normalization(int64_t set, int64_t first, int64_t count, float* gradient, int64_t row) const {
    auto& w = Workbench::of_thread();
    w.fit(patterns_);
    for (int64_t i = 0; i < count; i += patterns_.chunk_size()) {
      const auto chunk = patterns_.chunk(set, (first + i) / patterns_.chunk_size(), w.chunk.data());
      tile_ops().normalize_gradient(chunk.keys, chunk.count, p_.stored_width(),
                                    patterns_.moments(patterns_.sets()[set], first + i), gradient + i * row, row);
    }
  }

  const Call& p_;
  const Gradients& g_;
  const Parallel& parallel_;
  const PackedPatterns patterns_;
  const int64_t padded_stored_, padded_width_;
  std::vector<Group> groups_;
  std::vector<int64_t> first_group_;
  Buffer sums_;
};

}  // namespace

void retrieve_backward(const Call& call, const Gradients& gradients, const Parallel& parallel) {
  Backward(call, gradients, parallel).run();
}

}  // namespace hopfield::kernels
