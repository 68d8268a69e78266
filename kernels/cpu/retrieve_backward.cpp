#include "kernels/cpu/backward_tile.h"
#include "kernels/cpu/pattern_sums.h"
#include "kernels/cpu/sparse_backward.h"

#include <algorithm>
#include <vector>

namespace hopfield::kernels {
namespace {

class Backward {
 public:
  Backward(const Call& call, const Gradients& gradients, const Parallel& parallel)
      : p_(call),
        g_(gradients),
        parallel_(parallel),
        patterns_(call, true, parallel),
        padded_stored_(padded(p_.stored_width())),
        sums_(call, gradients, patterns_) {}

  void run() {
    int64_t blocks = 0;
    for (const auto& set : patterns_.sets()) blocks = std::max(blocks, patterns_.blocks(set));
    const bool all_small = std::all_of(groups().begin(), groups().end(), [](const TileGroup& group) {
      return group.end_row - group.first_row <= kTilesTogether * kTileRows;
    });
    constexpr size_t kFewGroups = 16;
    // Each way of sharing the work out gives the same bits.
    if (groups().size() < kFewGroups && blocks > 1 && all_small) {
      run_together();
    } else {
      // Neighbouring groups in one task, where they are small, share the cost of its scratch memory.
      const auto count = static_cast<int64_t>(groups().size()), in_task = std::clamp<int64_t>(count / 64, 1, 8);
      parallel_((count + in_task - 1) / in_task, [&](int64_t task) {
        std::vector<BackwardTile> tiles;
        for (auto i = task * in_task; i < std::min(count, (task + 1) * in_task); ++i) run_group(groups()[i], tiles);
      });
    }
    if (sums_.wanted()) write_patterns();
  }

 private:
  const std::vector<TileGroup>& groups() const { return sums_.groups(); }

  /// Whether one last pass writes the gradient of all steps, which is possible for the few rows of a pool.
  bool is_in_one_pass(const PatternSet& set) const {
    constexpr int64_t kMostRows = 512;
    return p_.is_pool() && set.rows <= kTileRows && 2 * set.rows * (p_.most_steps + 1) <= kMostRows;
  }

  /// What a block adds in one step of one tile.
  void add_block(BackwardTile& tile, const TileGroup& group, int64_t step, int64_t block, float* product) const {
    if (!sums_.wanted()) {
      tile.add_block(block, nullptr, product);
      return;
    }
    const auto to = sums_.of(group);
    if (!is_in_one_pass(patterns_.sets()[group.set])) {
      tile.add_block(block, &to, product);
    } else if (step > 0) {
      tile.add_block(block, nullptr, product);
    } else {
      tile.add_all_patterns(block, to.keys, to.key_row, product);
    }
  }

  /// @param tiles  of the groups before, whose memory is used again
  void run_group(const TileGroup& group, std::vector<BackwardTile>& tiles) const {
    const auto& set = patterns_.sets()[group.set];
    if (sums_.wanted() && !is_in_one_pass(set)) sums_.clear(group, 0, set.keys);
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

  void run_step(BackwardTile& tile, const TileGroup& group, int64_t step) const {
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
  void begin_tiles(const TileGroup& group, int64_t row, std::vector<BackwardTile>& tiles) const {
    const auto rows = std::min(group.end_row - row, kTilesTogether * kTileRows);
    const auto count = static_cast<size_t>((rows + kTileRows - 1) / kTileRows);
    while (tiles.size() > count) tiles.pop_back();
    while (tiles.size() < count)
      tiles.emplace_back(p_, g_, patterns_, sums_.wanted() && is_in_one_pass(patterns_.sets()[group.set]));
    for (size_t i = 0; i < count; ++i) {
      tiles[i].begin(group.set, row + static_cast<int64_t>(i) * kTileRows, group.end_row);
    }
  }

  /// For few queries and many keys: the threads share the blocks of each step.
  void run_together() const {
    struct Part {
      int64_t group, block, product;
    };
    std::vector<std::vector<BackwardTile>> tiles(groups().size());
    std::vector<Part> parts;
    int64_t count = 0;
    for (size_t i = 0; i < groups().size(); ++i) {
      begin_tiles(groups()[i], groups()[i].first_row, tiles[i]);
      const auto blocks = patterns_.blocks(patterns_.sets()[groups()[i].set]);
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
        const auto& group = groups()[part.group];
        const auto first = part.block * block_rows;
        const auto& set = patterns_.sets()[group.set];
        if (sums_.wanted() && step == p_.most_steps && !is_in_one_pass(set))
          sums_.clear(group, first, std::min(block_rows, set.keys - first));
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

  void write_patterns() const {
    PatternSums::Finish finish;
    if (p_.map.normalize) {
      finish = [this](int64_t set, int64_t first, int64_t count, float* gradient, int64_t row) {
        if (!is_in_one_pass(patterns_.sets()[set])) add_normalization(set, first, count, gradient, row);
      };
    }
    sums_.write(parallel_, finish);
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
  const int64_t padded_stored_;
  const PatternSums sums_;
};

}  // namespace

void retrieve_backward(const Call& call, const Gradients& gradients, const Parallel& parallel) {
  if (call.separation == Separation::entmax) return sparse_backward(call, gradients, parallel);
  Backward(call, gradients, parallel).run();
}

}  // namespace hopfield::kernels
