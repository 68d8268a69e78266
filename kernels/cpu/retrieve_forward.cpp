#include "kernels/cpu/forward_tile.h"
#include "kernels/cpu/small_forward.h"
#include "kernels/cpu/sparse_forward.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace hopfield::kernels {
namespace {

/// All steps of a tile by one thread.
void run_alone(ForwardTile& tile, const TileNumber& at, int64_t most_steps) {
  tile.begin(at.set, at.first_row);
  int64_t step = 0;
  for (; tile.wants_step(step); ++step) {
    tile.sum_all_blocks(false);
    tile.update(step);
  }
  tile.save_from(step, most_steps);
  tile.sum_all_blocks(true);
  tile.finish();
}

/// Tiles that make each step together: either they are few and have many keys, whose blocks the threads share, or the
/// stop rule compares all tiles of a head.
class Together {
 public:
  Together(const Call& call, const Outputs& outputs, const PackedPatterns& patterns,
           const std::vector<TileNumber>& numbers, bool share_blocks, const Parallel& parallel)
      : p_(call), patterns_(patterns), share_blocks_(share_blocks), parallel_(parallel) {
    for (const auto& number : numbers) {
      tiles_.emplace_back(call, outputs, patterns);
      tiles_.back().begin(number.set, number.first_row);
    }
  }

  void run() {
    for (int64_t step = 0; step < p_.most_steps; ++step) {
      std::vector<ForwardTile*> moving;
      for (auto& tile : tiles_) {
        if (tile.wants_step(step)) {
          moving.push_back(&tile);
        } else {
          tile.save_from(step, step + 1);
        }
      }
      pass(moving, false);
      for_each(moving, [step](ForwardTile& tile) { tile.update(step); });
    }
    std::vector<ForwardTile*> all;
    for (auto& tile : tiles_) all.push_back(&tile);
    pass(all, true);
    for_each(all, [](ForwardTile& tile) { tile.finish(); });
  }

 private:
  template <typename Run>
  void for_each(const std::vector<ForwardTile*>& tiles, const Run& run) const {
    parallel_(static_cast<int64_t>(tiles.size()), [&](int64_t i) { run(*tiles[i]); });
  }

  void pass(const std::vector<ForwardTile*>& tiles, bool last) {
    if (share_blocks_) {
      pass_by_blocks(tiles, last);
    } else {
      for_each(tiles, [last](ForwardTile& tile) { tile.sum_all_blocks(last); });
    }
    if (p_.per_head) compare_heads();
  }

  void pass_by_blocks(const std::vector<ForwardTile*>& tiles, bool last) {
    struct Part {
      ForwardTile* tile;
      int64_t block;
    };
    std::vector<Part> parts;
    for (auto* tile : tiles) {
      tile->begin_pass();
      const auto blocks = patterns_.blocks(patterns_.sets()[tile->set()]);
      for (int64_t block = 0; block < blocks; ++block) parts.push_back({tile, block});
    }
    const auto size = Partial::size(std::max(padded(p_.stored_width()), padded(p_.width)));
    memory_.resize(static_cast<int64_t>(parts.size()) * size);
    const auto partial = [&](int64_t i) { return Partial::in(memory_.data() + i * size); };
    parallel_(static_cast<int64_t>(parts.size()),
              [&](int64_t i) { parts[i].tile->sum_block(parts[i].block, last, partial(i)); });
    for (size_t i = 0; i < parts.size(); ++i) {
      parts[i].tile->add_block(partial(static_cast<int64_t>(i)), last, parts[i].block == 0);
    }
  }

  /// Called after a pass: the residual of all rows of a head is the largest Frobenius norm, over the batch, of the
  /// change of its association.
  void compare_heads() {
    std::vector<double> squares(static_cast<size_t>(p_.batch * p_.heads), 0.0);
    for (const auto& tile : tiles_) {
      for (int64_t i = 0; i < tile.row_count(); ++i) {
        if (!tile.is_pending(i)) continue;
        const auto square = tile.squared_change(i);
        // A row that is not a number must not stop the others of its head.
        if (std::isfinite(square)) squares[tile.row(i).batch * p_.heads + tile.row(i).head] += square;
      }
    }
    std::vector<double> largest(static_cast<size_t>(p_.heads), 0.0);
    for (size_t i = 0; i < squares.size(); ++i) {
      auto& of_head = largest[i % largest.size()];
      of_head = std::max(of_head, squares[i]);
    }
    for (auto& tile : tiles_) {
      for (int64_t i = 0; i < tile.row_count(); ++i) {
        if (tile.is_pending(i)) tile.set_residual(i, static_cast<float>(std::sqrt(largest[tile.row(i).head])));
      }
    }
  }

  const Call& p_;
  const PackedPatterns& patterns_;
  const bool share_blocks_;
  const Parallel& parallel_;
  std::vector<ForwardTile> tiles_;
  Buffer memory_;
};

}  // namespace

void retrieve_forward(const Call& call, const Outputs& outputs, const Parallel& parallel) {
  if (call.separation == Separation::entmax) return sparse_forward(call, outputs, parallel);
  if (is_small(call, outputs)) return small_forward(call, outputs, parallel);
  const PackedPatterns patterns(call, false, parallel);
  const auto tiles = patterns.tiles();
  const bool share_blocks = patterns.threads_share_tiles(tiles);
  if (share_blocks || (call.per_head && call.most_steps > 0)) {
    Together(call, outputs, patterns, tiles, share_blocks, parallel).run();
    return;
  }
  // Neighbouring tiles in one task, where they are small, share the cost of its scratch memory.
  const auto count = static_cast<int64_t>(tiles.size());
  const auto in_task = std::clamp<int64_t>(count / 64, 1, 8);
  parallel((count + in_task - 1) / in_task, [&](int64_t task) {
    ForwardTile tile(call, outputs, patterns);
    for (int64_t i = task * in_task; i < std::min(count, (task + 1) * in_task); ++i) {
      run_alone(tile, tiles[i], call.most_steps);
    }
  });
}

}  // namespace hopfield::kernels
