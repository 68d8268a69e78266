#include "kernels/cpu/retrieve.h"
#include "kernels/cpu/retrieve_tiles.h"

#include <algorithm>
#include <vector>

// With P = softmax(beta xi_t K^T), g the gradient of what the association gave (Z, or xi_{t+1}), dP = g V^T (or g K^T):
//
//     dS     = P * (dP - D)
//     D      = rowsum(dP * P) = g . Z (or g . xi_{t+1}), minus the gradient of logsumexp
//     dxi_t  = beta dS K
//     dV    += P^T g              (dK for an update)
//     dK    += beta dS^T xi_t
//     dbeta += xi_t . (dS K)
//
// P is computed again from the saved states and sums. Queries of one tile stay together for all steps; the gradient of
// the patterns is summed in a fixed order. dP - D cancels where P is nearly one-hot, and beta multiplies what is left:
// D is the sum of the very products it is compared with, or, where these come chunk by chunk, summed in the same order.

namespace hopfield::kernels {
namespace {

struct Workbench {
  Buffer weights, gradients, pair, chunk, block, all_weights, all_rows;

  void fit(const Stored& stored) {
    const auto keys = padded(stored.chunk_size());
    for (auto* buffer : {&weights, &gradients, &pair}) buffer->resize(kTileRows * keys);
    chunk.resize(stored.scratch_size());
  }
};

thread_local Workbench workbench;

/// Gradients of one set's patterns, summed in float32: rows of padded width.
struct PatternGradients {
  float *keys, *values;  ///< values: if they are not the stored patterns
  int64_t key_row, value_row;
};

/// One association of a tile's rows: what made it, and the gradient of what it gave.
struct Association {
  int64_t step;
  int64_t incoming_row;
  Buffer scaled, incoming;  ///< beta xi_t (W), [rows, depth]; g [rows, width or depth]
  float largest[kTileRows], sum[kTileRows], mean[kTileRows], extra[kTileRows];
};

class Tile {
 public:
  /// @param keep_all  associations stay until the end, for add_all_patterns()
  Tile(const RetrieveProblem& problem, const RetrieveGradients& gradients, const Stored& stored, bool keep_all)
      : p_(problem),
        g_(gradients),
        stored_(stored),
        own_values_(problem.own_values),
        depth_room_(padded(p_.depth)),
        width_room_(padded(p_.width)),
        state_depth_(p_.state_depth()),
        state_room_(padded(state_depth_)),
        room_(std::max({depth_room_, width_room_, state_room_})),
        associations_(static_cast<size_t>(keep_all ? g_.most_steps + 1 : 1)) {
    for (auto* buffer : {&state_, &carried_, &total_, &mapped_}) buffer->resize(kTileRows * room_);
    for (auto& association : associations_) {
      association.scaled.resize(kTileRows * room_);
      association.incoming.resize(kTileRows * room_);
    }
  }

  void begin(int64_t set, int64_t first_row, int64_t end_row) {
    set_ = set;
    const auto& s = stored_.sets()[set];
    count_ = std::min(kTileRows, end_row - first_row);
    for (int64_t i = 0; i < count_; ++i) {
      rows_[i] = stored_.row(s, first_row + i);
      beta_[i] = p_.beta[rows_[i].head];
      beta_gradient_[i] = 0.0f;
      float* carried = carried_.data() + i * state_room_;
      std::fill(carried, carried + state_room_, 0.0f);
      if (g_.state != nullptr) std::copy_n(g_.state + rows_[i].index * state_depth_, state_depth_, carried);
    }
    if (stored_.is_one_chunk(s)) {
      kept_memory_.resize(stored_.scratch_size());
      kept_ = stored_.chunk(set, 0, kept_memory_.data());
    }
  }

  /// Prepares the association that made the output (step T) or the state after `step`.
  void begin_step(int64_t step) {
    step_ = step;
    auto& a = current();
    a.step = step;
    a.incoming_row = is_last() ? width_room_ : depth_room_;
    const auto& ops = tile_ops();
    float* scaled = p_.map != nullptr ? mapped_.data() : a.scaled.data();
    if (step == 0) {
      load_rows(p_.state, p_.type, rows_, count_, state_depth_, state_.data());
    } else {
      for (int64_t i = 0; i < count_; ++i) load_state(i, step, state_.data() + i * state_room_);
    }
    for (int64_t i = 0; i < count_; ++i) {
      ops.scale(scaled + i * state_room_, state_.data() + i * state_room_, beta_[i], state_room_);
    }
    if (p_.map != nullptr) to_instances(p_, rows_, count_, scaled, a.scaled.data());
    if (!is_last()) take_carried(a.incoming.data());
    for (int64_t i = 0; i < count_; ++i) {
      const auto number = rows_[i].index;
      a.largest[i] = g_.saved_sums[2 * (step * rows() + number)];
      a.sum[i] = g_.saved_sums[2 * (step * rows() + number) + 1];
      a.extra[i] = is_last() && g_.logsumexp != nullptr ? g_.logsumexp[number] : 0.0f;
      float* incoming = a.incoming.data() + i * a.incoming_row;
      if (is_last()) {
        ops.load(g_.output + number * p_.width, Type::float32, 0, 1, p_.width, incoming);
        ops.load(g_.saved_output + number * p_.width, Type::float32, 0, 1, p_.width, total_.data());
        a.mean[i] = product(incoming, total_.data(), p_.width);
        if (g_.mass != nullptr && p_.dropout > 0) a.mean[i] += g_.mass[number] * g_.final_mass[number];
      } else if (moved(i)) {
        if (p_.map != nullptr) {
          ops.load(g_.saved_means + (step * rows() + number) * p_.depth, Type::float32, 0, 1, p_.depth, total_.data());
        } else {
          load_state(i, step + 1, total_.data());
        }
        a.mean[i] = product(incoming, total_.data(), p_.depth);
      } else {
        a.mean[i] = 0.0f;
        a.sum[i] = 0.0f;  // no association
      }
    }
  }

  /// One block of keys: adds to the patterns' gradients, if they are given, and gives dS K of the rows in `product`
  /// [rows, depth_room].
  void add_block(int64_t block, const PatternGradients* gradients, float* product) {
    const auto& ops = tile_ops();
    auto& w = workbench;
    w.fit(stored_);
    const auto& a = current();
    const auto row = padded(stored_.chunk_size());
    const auto end = stored_.chunks_end(stored_.sets()[set_], block);
    for (auto number = stored_.chunks_begin(block); number < end; ++number) {
      const auto chunk = take_chunk(number);
      associate(a, chunk, w.weights.data(), w.gradients.data());
      if (gradients != nullptr) {
        // Through what was read: dV += P^T g, or dK for an update.
        const bool to_values = is_last() && own_values_;
        const auto target_row = to_values ? gradients->value_row : gradients->key_row;
        float* target = (to_values ? gradients->values : gradients->keys) + chunk.first * target_row;
        ops.gemm({chunk.count, is_last() ? p_.width : p_.depth, count_, w.weights.data(), 1, row, a.incoming.data(),
                  a.incoming_row, ops.panel, target, target_row, true});
        // Through the scores: dK += beta dS^T xi.
        ops.gemm({chunk.count, p_.depth, count_, w.gradients.data(), 1, row, a.scaled.data(), depth_room_, ops.panel,
                  gradients->keys + chunk.first * gradients->key_row, gradients->key_row, true});
      }
      ops.gemm({count_, p_.depth, chunk.count, w.gradients.data(), row, 1, chunk.keys, chunk.key_row, ops.panel,
                product, depth_room_, number != stored_.chunks_begin(block)});
    }
  }

  /// For kept associations of a pool: in one pass over a block's instances their gradient for all steps, written to
  /// rows at a distance of gradient_row, and dS K of step 0.
  void add_all_patterns(int64_t block, float* gradient, int64_t gradient_row, float* product) {
    const auto& ops = tile_ops();
    auto& w = workbench;
    w.fit(stored_);
    const auto row = padded(stored_.chunk_size());
    const auto stacked = 2 * count_;  // rows of an association: P, then dS
    const auto all = stacked * static_cast<int64_t>(associations_.size());
    w.all_weights.resize(all * row);
    w.all_rows.resize(all * depth_room_);
    for (const auto& a : associations_) {
      float* to = w.all_rows.data() + a.step * stacked * depth_room_;
      std::copy_n(a.incoming.data(), count_ * depth_room_, to);
      std::copy_n(a.scaled.data(), count_ * depth_room_, to + count_ * depth_room_);
    }
    const auto& set = stored_.sets()[set_];
    const auto end = stored_.chunks_end(set, block);
    for (auto number = stored_.chunks_begin(block); number < end; ++number) {
      const auto chunk = take_chunk(number);
      for (const auto& a : associations_) {
        float* weights = w.all_weights.data() + a.step * stacked * row;
        associate(a, chunk, weights, weights + count_ * row);
      }
      float* target = gradient + chunk.first * gradient_row;
      ops.gemm({chunk.count, p_.depth, all, w.all_weights.data(), 1, row, w.all_rows.data(), depth_room_, ops.panel,
                target, gradient_row, false});
      if (p_.normalize) {
        ops.normalize_gradient(chunk.keys, chunk.count, p_.depth, stored_.moments(set, chunk.first), target,
                               gradient_row);
      }
      ops.gemm({count_, p_.depth, chunk.count, w.all_weights.data() + count_ * row, row, 1, chunk.keys, chunk.key_row,
                ops.panel, product, depth_room_, number != stored_.chunks_begin(block)});
    }
  }

  void clear_product() { std::fill_n(total_.data(), kTileRows * depth_room_, 0.0f); }
  void add_product(const float* product) {
    for (int64_t i = 0; i < count_ * depth_room_; ++i) total_.data()[i] += product[i];
  }

  /// After all blocks: the gradient goes on to the state before.
  void finish_step() {
    const auto& ops = tile_ops();
    const float* products = total_.data();
    if (p_.map != nullptr) {
      for (int64_t i = 0; i < count_; ++i) {
        float* to = g_.products + (step_ * rows() + rows_[i].index) * p_.depth;
        const float* product = total_.data() + i * depth_room_;
        for (int64_t k = 0; k < p_.depth; ++k) to[k] = is_last() || moved(i) ? product[k] : 0.0f;
      }
      to_states(p_, rows_, count_, total_.data(), mapped_.data());
      products = mapped_.data();
    }
    for (int64_t i = 0; i < count_; ++i) {
      if (!is_last() && !moved(i)) continue;
      const float* product = products + i * state_room_;
      beta_gradient_[i] += ops.inner(state_.data() + i * state_room_, product, state_room_);
      // What came in by way of the state after this update has been spent.
      ops.combine(carried_.data() + i * state_room_, is_last() ? 1.0f : 0.0f, product, beta_[i], state_room_);
    }
  }

  void finish() const {
    for (int64_t i = 0; i < count_; ++i) {
      const auto& row = rows_[i];
      g_.beta[row.index] = beta_gradient_[i];
    }
    store_rows(carried_.data(), g_.query, p_.type, rows_, count_, state_depth_);
  }

 private:
  bool is_last() const { return step_ == g_.most_steps; }
  bool moved(int64_t i) const { return g_.steps[rows_[i].index] > step_; }
  int64_t rows() const { return p_.batch * p_.heads * p_.queries; }
  Association& current() { return associations_[associations_.size() > 1 ? static_cast<size_t>(step_) : 0]; }

  /// The gradient of the states after the update becomes that of what the association gave.
  void take_carried(float* incoming) {
    float* taken = p_.map != nullptr ? mapped_.data() : incoming;
    for (int64_t i = 0; i < count_; ++i) {
      float* to = taken + i * state_room_;
      if (moved(i)) {
        std::copy_n(carried_.data() + i * state_room_, state_room_, to);
      } else {
        std::fill_n(to, state_room_, 0.0f);
      }
      if (p_.map != nullptr) {
        std::copy_n(to, state_depth_, g_.states + (step_ * rows() + rows_[i].index) * state_depth_);
      }
    }
    if (p_.map != nullptr) to_instances(p_, rows_, count_, taken, incoming);
  }

  Chunk take_chunk(int64_t number) const {
    return stored_.is_one_chunk(stored_.sets()[set_]) ? kept_ : stored_.chunk(set_, number, workbench.chunk.data());
  }

  /// P of a chunk, as it was read out (after dropout), and dS.
  void associate(const Association& a, const Chunk& chunk, float* weights, float* gradients) const {
    const auto& ops = tile_ops();
    auto& w = workbench;
    const auto row = padded(stored_.chunk_size());
    const bool last = a.step == g_.most_steps, paired = p_.pair.kind != PairMask::Kind::none;
    products(a.scaled.data(), depth_room_, p_.depth, chunk.keys, chunk.key_row, chunk.keys_transposed, chunk.panel_row,
             chunk.count, weights, row);
    if (paired) load_pair_mask(p_.pair, rows_, count_, chunk.first, chunk.count, w.pair.data(), row);
    ops.association({weights, row, count_, chunk.count, chunk.key_bias, paired ? w.pair.data() : nullptr, row},
                    a.largest, a.sum);
    if (last) {
      products(a.incoming.data(), a.incoming_row, p_.width, chunk.values, chunk.value_row, chunk.values_transposed,
               chunk.panel_row, chunk.count, gradients, row);
    } else {
      products(a.incoming.data(), a.incoming_row, p_.depth, chunk.keys, chunk.key_row, chunk.keys_transposed,
               chunk.panel_row, chunk.count, gradients, row);
    }
    const bool dropping = last && p_.dropout > 0;
    if (dropping) {
      for (int64_t i = 0; i < count_ && g_.mass != nullptr; ++i) {
        const auto more = g_.mass[rows_[i].index];
        for (int64_t j = 0; j < chunk.count; ++j) gradients[i * row + j] += more;
      }
      apply_dropout(p_, rows_, count_, chunk.first, chunk.count, gradients, row);
    }
    const bool whole = chunk.count == stored_.sets()[set_].keys;
    ops.softmax_gradient(weights, gradients, row, count_, chunk.count, whole ? nullptr : a.mean, a.extra);
    if (dropping) apply_dropout(p_, rows_, count_, chunk.first, chunk.count, weights, row);
  }

  /// The state after `step` > 0 updates.
  void load_state(int64_t i, int64_t step, float* target) const {
    tile_ops().load(g_.saved_states + ((step - 1) * rows() + rows_[i].index) * state_depth_, Type::float32, 0, 1,
                    state_depth_, target);
  }

  /// x . y, in the order in which products() sums.
  float product(const float* x, const float* y, int64_t width) const {
    return stored_.is_packed(stored_.sets()[set_]) ? tile_ops().inner_in_order(x, y, width)
                                                   : tile_ops().inner(x, y, padded(width));
  }

  void products(const float* x, int64_t x_row, int64_t width, const float* y, int64_t y_row, const float* transposed,
                int64_t panel_row, int64_t keys, float* target, int64_t target_row) const {
    const auto& ops = tile_ops();
    if (transposed != nullptr) {
      ops.gemm({count_, keys, width, x, x_row, 1, transposed, panel_row, width * panel_row, target, target_row, false});
    } else {
      ops.dot(x, x_row, count_, y, y_row, keys, width, target, target_row);
    }
  }

  const RetrieveProblem& p_;
  const RetrieveGradients& g_;
  const Stored& stored_;
  const bool own_values_;
  const int64_t depth_room_, width_room_, state_depth_, state_room_, room_;
  int64_t set_ = 0, count_ = 0, step_ = 0;
  Row rows_[kTileRows];
  float beta_[kTileRows], beta_gradient_[kTileRows];
  Buffer state_, carried_, total_, mapped_;
  std::vector<Association> associations_;
  Buffer kept_memory_;
  Chunk kept_{};
};

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
  bool wants_patterns() const { return g_.stored.data != nullptr; }

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
  void add_block(Tile& tile, const Group& group, int64_t step, int64_t block, float* product) const {
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
    std::vector<Tile> tiles;
    for (int64_t row = group.first_row; row < group.end_row; row += kTilesTogether * kTileRows) {
      begin_tiles(group, row, tiles);
      for (int64_t step = g_.most_steps; step >= 0; --step) {
        for (auto& tile : tiles) run_step(tile, group, step);
      }
      for (const auto& tile : tiles) tile.finish();
    }
  }

  void run_step(Tile& tile, const Group& group, int64_t step) const {
    tile.begin_step(step);
    tile.clear_product();
    const auto blocks = stored_.blocks(stored_.sets()[group.set]);
    workbench.block.resize(kTileRows * depth_room_);  // here only: add_block() writes to it
    for (int64_t block = 0; block < blocks; ++block) {
      add_block(tile, group, step, block, workbench.block.data());
      tile.add_product(workbench.block.data());
    }
    tile.finish_step();
  }

  /// The next tiles of a group, reusing the memory of those before.
  void begin_tiles(const Group& group, int64_t row, std::vector<Tile>& tiles) const {
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
    std::vector<std::vector<Tile>> tiles(groups_.size());
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
      for_all_tiles([&](Tile& tile) { tile.begin_step(step); });
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
      for_all_tiles([](Tile& tile) { tile.clear_product(); });
      for (const auto& part : parts) {
        for (size_t j = 0; j < tiles[part.group].size(); ++j) {
          tiles[part.group][j].add_product(products.data() + (part.product + static_cast<int64_t>(j)) * size);
        }
      }
      for_all_tiles([](Tile& tile) { tile.finish_step(); });
    }
    for_all_tiles([](const Tile& tile) { tile.finish(); });
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
    workbench.chunk.resize(stored_.scratch_size());
    for (int64_t i = 0; i < count; i += stored_.chunk_size()) {
      const auto chunk = stored_.chunk(set, (first + i) / stored_.chunk_size(), workbench.chunk.data());
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
