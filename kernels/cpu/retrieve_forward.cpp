#include "kernels/cpu/retrieve.h"
#include "kernels/cpu/retrieve_tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace hopfield::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Sums of exponentials for the rows of a tile: `largest` score, `sum` of exponentials, weighted `values`. Several of
/// them merge into one. A row without keys has largest -inf and sum 0.
struct Partial {
  float* largest;
  float* sum;
  float* kept;  ///< the sum of what dropout leaves
  float* values;

  static int64_t size(int64_t room) { return kTileRows * (room + 3); }
  static Partial in(float* memory) {
    return {memory, memory + kTileRows, memory + 2 * kTileRows, memory + 3 * kTileRows};
  }
};

void merge(const Partial& total, const Partial& part, int64_t rows, int64_t room, bool first) {
  const auto& ops = tile_ops();
  for (int64_t i = 0; i < rows; ++i) {
    float* values = total.values + i * room;
    const float* added = part.values + i * room;
    const bool empty = part.largest[i] == -kInfinity && part.sum[i] == 0.0f;
    if (first || (total.largest[i] == -kInfinity && total.sum[i] == 0.0f)) {
      total.largest[i] = part.largest[i];
      total.sum[i] = part.sum[i];
      total.kept[i] = part.kept[i];
      std::copy(added, added + room, values);
    } else if (!empty) {
      const auto largest = part.largest[i] > total.largest[i] ? part.largest[i] : total.largest[i];
      // Equal infinities cancel: NaN comes from the sums then, not from here.
      const auto scale = [&](float of) { return of == largest ? 1.0f : std::exp(of - largest); };
      const auto before = scale(total.largest[i]), after = scale(part.largest[i]);
      total.sum[i] = before * total.sum[i] + after * part.sum[i];
      total.kept[i] = before * total.kept[i] + after * part.kept[i];
      total.largest[i] = largest;
      ops.combine(values, before, added, after, room);
    }
  }
}

float logsumexp(float largest, float sum) {
  return static_cast<float>(static_cast<double>(largest) + std::log(static_cast<double>(sum)));
}

/// Scratch of whoever computes partial sums: one for each thread.
struct Workbench {
  Buffer scores, pair, values, chunk, block;

  void fit(const Stored& stored, int64_t room) {
    const auto keys = padded(stored.chunk_size());
    scores.resize(kTileRows * keys);
    pair.resize(kTileRows * keys);
    values.resize(Partial::size(room));
    block.resize(Partial::size(room));
    chunk.resize(stored.scratch_size());
  }
};

thread_local Workbench workbench;

/// One tile of queries on its way through the updates.
class Tile {
 public:
  Tile(const RetrieveProblem& problem, const RetrieveOutputs& outputs, const Stored& stored, int64_t most_steps)
      : p_(problem),
        out_(outputs),
        stored_(stored),
        most_steps_of_all_(most_steps),
        depth_room_(padded(p_.depth)),
        width_room_(padded(p_.width)),
        state_depth_(p_.state_depth()),
        state_room_(padded(state_depth_)) {
    state_.resize(kTileRows * state_room_);
    next_.resize(kTileRows * state_room_);
    scaled_.resize(kTileRows * depth_room_);
    total_.resize(Partial::size(std::max(depth_room_, width_room_)));
  }

  void begin(int64_t set, int64_t first_row) {
    set_ = set;
    const auto& s = stored_.sets()[set];
    count_ = std::min(kTileRows, s.rows - first_row);
    for (int64_t i = 0; i < count_; ++i) {
      rows_[i] = stored_.row(s, first_row + i);
      beta_[i] = p_.beta[rows_[i].head];
      steps_[i] = 0;
      residual_[i] = std::numeric_limits<float>::quiet_NaN();
      frozen_[i] = false;
    }
    load_rows(p_.state, p_.type, rows_, count_, state_depth_, state_.data());
    if (stored_.is_one_chunk(s)) {
      kept_memory_.resize(stored_.scratch_size());
      kept_ = stored_.chunk(set, 0, kept_memory_.data());
    }
  }

  int64_t set() const { return set_; }
  bool wants_step(int64_t step) const {
    for (int64_t i = 0; i < count_; ++i) {
      if (active(i, step)) return true;
    }
    return false;
  }

  /// Sums over the keys of one block. `last`: values are read out.
  void sum_block(int64_t block, bool last, const Partial& partial) const {
    const auto& ops = tile_ops();
    const auto room = last ? width_room_ : depth_room_;
    auto& w = workbench;
    w.fit(stored_, std::max(depth_room_, width_room_));
    const auto& set = stored_.sets()[set_];
    const bool is_kept = stored_.is_one_chunk(set);
    const auto keys_row = padded(stored_.chunk_size());
    const auto begin = stored_.chunks_begin(block), end = stored_.chunks_end(set, block);
    const auto part = end - begin == 1 ? partial : Partial::in(w.values.data());
    for (int64_t number = begin; number < end; ++number) {
      const auto chunk = is_kept ? kept_ : stored_.chunk(set_, number, w.chunk.data());
      if (chunk.keys_transposed != nullptr) {
        ops.gemm({count_, chunk.count, p_.depth, scaled_.data(), depth_room_, 1, chunk.keys_transposed, chunk.panel_row,
                  p_.depth * chunk.panel_row, w.scores.data(), keys_row, false});
      } else {
        ops.dot(scaled_.data(), depth_room_, count_, chunk.keys, chunk.key_row, chunk.count, p_.depth, w.scores.data(),
                keys_row);
      }
      const bool paired = p_.pair.kind != PairMask::Kind::none;
      if (paired) load_pair_mask(p_.pair, rows_, count_, chunk.first, chunk.count, w.pair.data(), keys_row);
      if (last && out_.scores != nullptr) write_scores(chunk, keys_row);
      ops.exponentials(
          {w.scores.data(), keys_row, count_, chunk.count, chunk.key_bias, paired ? w.pair.data() : nullptr, keys_row},
          part.largest, part.sum);
      std::copy(part.sum, part.sum + count_, part.kept);
      if (last && p_.dropout > 0) {
        apply_dropout(p_, rows_, count_, chunk.first, chunk.count, w.scores.data(), keys_row);
        for (int64_t i = 0; i < count_; ++i) {
          part.kept[i] = ops.sum(w.scores.data() + i * keys_row, chunk.count);
        }
      }
      ops.gemm({count_, last ? p_.width : p_.depth, chunk.count, w.scores.data(), keys_row, 1,
                last ? chunk.values : chunk.keys, last ? chunk.value_row : chunk.key_row, ops.panel, part.values, room,
                false});
      if (end - begin > 1) merge(partial, part, count_, room, number == begin);
    }
  }

  /// Adds a block's sums to those of the blocks before it.
  void add_block(const Partial& partial, bool last, bool first) {
    merge(total(), partial, count_, last ? width_room_ : depth_room_, first);
  }

  void sum_all_blocks(bool last) {
    const auto blocks = stored_.blocks(stored_.sets()[set_]);
    begin_pass();
    if (blocks == 1) return sum_block(0, last, total());
    for (int64_t block = 0; block < blocks; ++block) {
      workbench.fit(stored_, std::max(depth_room_, width_room_));
      const auto partial = Partial::in(workbench.block.data());
      sum_block(block, last, partial);
      add_block(partial, last, block == 0);
    }
  }

  /// Before the first block: what a tile without any keys has, and the states times beta.
  void begin_pass() {
    float* scaled = p_.map != nullptr ? next_.data() : scaled_.data();
    for (int64_t i = 0; i < count_; ++i) {
      tile_ops().scale(scaled + i * state_room_, state_.data() + i * state_room_, beta_[i], state_room_);
    }
    if (p_.map != nullptr) to_instances(p_, rows_, count_, scaled, scaled_.data());
    std::fill(total().largest, total().largest + count_, -kInfinity);
    std::fill(total().sum, total().sum + count_, 0.0f);
    std::fill(total().kept, total().kept + count_, 0.0f);
    if (stored_.sets()[set_].keys == 0) {
      std::fill(total().values, total().values + count_ * std::max(depth_room_, width_room_), 0.0f);
    }
  }

  /// Moves the states that are still on their way to softmax(beta xi K^T) K.
  void update(int64_t step) {
    const auto& ops = tile_ops();
    const auto sums = total();
    for (int64_t i = 0; i < count_; ++i) {
      float* mean = sums.values + i * depth_room_;
      if (!is_dead(i)) ops.divide(mean, sums.sum[i], depth_room_);
      if (out_.saved_means != nullptr) {
        std::copy(mean, mean + p_.depth, out_.saved_means + (step * total_rows() + rows_[i].index) * p_.depth);
      }
    }
    const float* all_next = sums.values;
    if (p_.map != nullptr) {
      to_states(p_, rows_, count_, sums.values, next_.data());
      for (int64_t i = 0; i < count_ && p_.map->bias != nullptr; ++i) {
        ops.combine(next_.data() + i * state_room_, 1.0f, p_.map->bias + rows_[i].head * state_room_, 1.0f,
                    state_room_);
      }
      all_next = next_.data();
    }
    for (int64_t i = 0; i < count_; ++i) {
      const auto number = rows_[i].index;
      float* state = state_.data() + i * state_room_;
      save_sums(i, step);
      if (active(i, step)) {
        const float* next = all_next + i * state_room_;
        if (is_dead(i)) {
          die(i);
        } else {
          residual_[i] = ops.distance(next, state, state_room_);
          std::copy(next, next + state_room_, state);
          ++steps_[i];
          const auto eps = p_.eps[rows_[i].head];
          frozen_[i] = eps > 0 && !(residual_[i] > eps && std::isfinite(residual_[i]));
        }
      }
      if (out_.saved_states != nullptr) {
        std::copy(state, state + state_depth_, out_.saved_states + (step * total_rows() + number) * state_depth_);
      }
    }
  }

  /// The states stand still from `step` on: what the backward pass will look for.
  void save_from(int64_t step, int64_t end) const {
    if (out_.saved_states == nullptr) return;
    for (; step < end; ++step) {
      for (int64_t i = 0; i < count_; ++i) {
        const float* state = state_.data() + i * state_room_;
        const auto at = step * total_rows() + rows_[i].index;
        std::copy(state, state + state_depth_, out_.saved_states + at * state_depth_);
      }
    }
  }

  void finish() {
    const auto& ops = tile_ops();
    const auto sums = total();
    for (int64_t i = 0; i < count_; ++i) {
      const auto& row = rows_[i];
      float* output = sums.values + i * width_room_;
      if (is_dead(i)) {
        die(i);
        std::fill(output, output + width_room_, 0.0f);
      } else {
        ops.divide(output, sums.sum[i], width_room_);
      }
      if (out_.saved_output != nullptr) std::copy(output, output + p_.width, out_.saved_output + row.index * p_.width);
      save_sums(i, most_steps_of_all_);
      if (out_.mass != nullptr) out_.mass[row.index] = is_dead(i) ? 0.0f : sums.kept[i] / sums.sum[i];
      out_.logsumexp[row.index] = is_dead(i) ? -kInfinity : logsumexp(sums.largest[i], sums.sum[i]);
      out_.residual[row.index] = residual_[i];
      out_.steps[row.index] = steps_[i];
      out_.converged[row.index] = residual_[i] <= p_.eps[row.head] || is_dead(i);
    }
    store_rows(sums.values, out_.output, p_.type, rows_, count_, p_.width);
    store_rows(state_.data(), out_.state, p_.type, rows_, count_, state_depth_);
  }

 private:
  Partial total() const { return Partial::in(total_.data()); }
  int64_t total_rows() const { return p_.batch * p_.heads * p_.queries; }
  bool active(int64_t i, int64_t step) const { return !frozen_[i] && step < p_.steps_max[rows_[i].head]; }
  bool is_dead(int64_t i) const { return total().largest[i] == -kInfinity && total().sum[i] == 0.0f; }
  void die(int64_t i) {
    residual_[i] = 0.0f;
    frozen_[i] = true;
  }
  void write_scores(const Chunk& chunk, int64_t keys_row) const {
    const auto& set = stored_.sets()[set_];
    const bool paired = p_.pair.kind != PairMask::Kind::none;
    for (int64_t i = 0; i < count_; ++i) {
      const auto& row = rows_[i];
      float* to = out_.scores + row.batch * out_.score_batch + row.head * out_.score_head +
                  row.query * out_.score_query + (set.first + chunk.first) * out_.score_key;
      for (int64_t j = 0; j < chunk.count; ++j) {
        const float key_bias = chunk.key_bias != nullptr ? chunk.key_bias[j] : 0.0f;
        const float pair = paired ? workbench.pair.data()[i * keys_row + j] : 0.0f;
        const bool excluded = key_bias == -kInfinity || pair == -kInfinity;
        const float score = workbench.scores.data()[i * keys_row + j] + key_bias + pair;
        to[j * out_.score_key] = excluded ? -kInfinity : score;
      }
    }
  }

  void save_sums(int64_t i, int64_t step) const {
    if (out_.saved_sums == nullptr) return;
    float* to = out_.saved_sums + 2 * (step * total_rows() + rows_[i].index);
    to[0] = total().largest[i];
    to[1] = total().sum[i];
  }

  const RetrieveProblem& p_;
  const RetrieveOutputs& out_;
  const Stored& stored_;
  const int64_t most_steps_of_all_, depth_room_, width_room_, state_depth_, state_room_;
  int64_t set_ = 0, count_ = 0;
  Row rows_[kTileRows];
  float beta_[kTileRows], residual_[kTileRows];
  int64_t steps_[kTileRows];
  bool frozen_[kTileRows];
  Buffer state_, next_, scaled_, total_, kept_memory_;
  Chunk kept_{};
};

struct TileNumber {
  int64_t set, first_row;
};

/// All steps of a tile by one thread.
void run_alone(Tile& tile, const TileNumber& at, int64_t most_steps) {
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

/// All steps of few tiles with many keys: threads share the blocks of each step.
void run_together(std::vector<Tile>& tiles, const std::vector<TileNumber>& numbers, const Stored& stored, int64_t room,
                  int64_t most_steps, const Parallel& parallel) {
  struct Part {
    int64_t tile, block;
  };
  for (size_t i = 0; i < tiles.size(); ++i) tiles[i].begin(numbers[i].set, numbers[i].first_row);
  Buffer memory;
  const auto pass = [&](bool last, int64_t step) {
    std::vector<Part> parts;
    for (size_t i = 0; i < tiles.size(); ++i) {
      if (!last && !tiles[i].wants_step(step)) continue;
      tiles[i].begin_pass();
      const auto blocks = stored.blocks(stored.sets()[tiles[i].set()]);
      for (int64_t block = 0; block < blocks; ++block) parts.push_back({static_cast<int64_t>(i), block});
    }
    memory.resize(static_cast<int64_t>(parts.size()) * Partial::size(room));
    const auto partial = [&](int64_t i) { return Partial::in(memory.data() + i * Partial::size(room)); };
    parallel(static_cast<int64_t>(parts.size()),
             [&](int64_t i) { tiles[parts[i].tile].sum_block(parts[i].block, last, partial(i)); });
    for (size_t i = 0; i < parts.size(); ++i) {
      tiles[parts[i].tile].add_block(partial(static_cast<int64_t>(i)), last, parts[i].block == 0);
    }
  };
  for (int64_t step = 0; step < most_steps; ++step) {
    if (std::none_of(tiles.begin(), tiles.end(), [&](const Tile& tile) { return tile.wants_step(step); })) {
      for (auto& tile : tiles) tile.save_from(step, most_steps);
      break;
    }
    std::vector<bool> moving;
    for (const auto& tile : tiles) moving.push_back(tile.wants_step(step));
    pass(false, step);
    for (size_t i = 0; i < tiles.size(); ++i) {
      if (moving[i]) {
        tiles[i].update(step);
      } else {
        tiles[i].save_from(step, step + 1);
      }
    }
  }
  pass(true, most_steps);
  for (auto& tile : tiles) tile.finish();
}

}  // namespace

void retrieve_forward(const RetrieveProblem& problem, const RetrieveOutputs& outputs, const Parallel& parallel) {
  const Stored stored(problem, false, parallel);
  std::vector<TileNumber> tiles;
  int64_t blocks = 0;
  for (size_t i = 0; i < stored.sets().size(); ++i) {
    const auto& set = stored.sets()[i];
    for (int64_t row = 0; row < set.rows; row += kTileRows) tiles.push_back({static_cast<int64_t>(i), row});
    blocks = std::max(blocks, stored.blocks(set));
  }
  const auto most_steps =
      problem.heads > 0 ? *std::max_element(problem.steps_max, problem.steps_max + problem.heads) : 0;
  // Either way gives the same bits.
  constexpr size_t kFewTiles = 16;
  if (tiles.size() < kFewTiles && blocks > 1) {
    std::vector<Tile> together;
    for (size_t i = 0; i < tiles.size(); ++i) together.emplace_back(problem, outputs, stored, most_steps);
    const auto room = std::max(padded(problem.depth), padded(problem.width));
    run_together(together, tiles, stored, room, most_steps, parallel);
    return;
  }
  // Neighbouring tiles in one task, where they are small, share the cost of its scratch memory.
  const auto count = static_cast<int64_t>(tiles.size());
  const auto in_task = std::clamp<int64_t>(count / 64, 1, 8);
  parallel((count + in_task - 1) / in_task, [&](int64_t task) {
    Tile tile(problem, outputs, stored, most_steps);
    for (int64_t i = task * in_task; i < std::min(count, (task + 1) * in_task); ++i) {
      run_alone(tile, tiles[i], most_steps);
    }
  });
}

}  // namespace hopfield::kernels
