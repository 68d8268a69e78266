#include "kernels/cpu/sparse_forward.h"

#include "kernels/cpu/sparse_association.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::kernels {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// One tile of queries on its way through the updates.
class SparseTile {
 public:
  SparseTile(const Call& call, const Outputs& outputs, const PackedPatterns& patterns)
      : p_(call),
        out_(outputs),
        patterns_(patterns),
        padded_depth_(padded(p_.depth)),
        padded_width_(padded(p_.width)),
        association_(call, patterns) {
    state_.resize(kTileRows * padded_depth_);
    scaled_.resize(kTileRows * padded_depth_);
    found_.resize(kTileRows * std::max(padded_depth_, padded_width_));
  }

  /// All updates and the read-out.
  /// @param shared  whether the threads of `parallel` share this tile
  void run(int64_t set, int64_t first_row, bool shared, const Parallel& parallel) {
    begin(set, first_row);
    int64_t step = 0;
    for (; wants_step(step); ++step) {
      pass(step, false, shared, parallel);
      for (int64_t i = 0; i < count_; ++i) update(i, step);
      save_from(step, step + 1);
    }
    save_from(step, p_.most_steps);
    pass(p_.most_steps, true, shared, parallel);
    for (int64_t i = 0; i < count_; ++i) finish(i);
    store_rows(found_.data(), out_.output, p_.type, rows_, count_, p_.width);
    if (out_.state.data != nullptr) store_rows(state_.data(), out_.state, p_.type, rows_, count_, p_.depth);
  }

 private:
  void begin(int64_t set, int64_t first_row) {
    const auto& s = patterns_.sets()[set];
    count_ = std::min(kTileRows, s.rows - first_row);
    patterns_.find_rows(s, first_row, count_, rows_);
    for (int64_t i = 0; i < count_; ++i) {
      steps_[i] = 0;
      residual_[i] = kNaN;
      frozen_[i] = false;
    }
    load_rows(p_.state, p_.type, rows_, count_, p_.depth, state_.data());
    association_.begin(set, rows_, count_);
  }

  bool active(int64_t i, int64_t step) const { return !frozen_[i] && step < p_.steps_max[rows_[i].head]; }

  bool wants_step(int64_t step) const {
    for (int64_t i = 0; i < count_; ++i) {
      if (active(i, step)) return true;
    }
    return false;
  }

  /// Finds the next state, or what is read out, of all rows that want it.
  void pass(int64_t step, bool last, bool shared, const Parallel& parallel) {
    for (int64_t i = 0; i < count_; ++i) {
      tile_ops().scale(scaled_.data() + i * padded_depth_, state_.data() + i * padded_depth_, p_.beta[rows_[i].head],
                       padded_depth_);
      association_.want(i, last || active(i, step));
    }
    const bool writes_scores = last && out_.scores != nullptr;
    association_.collect(scaled_.data(), last, writes_scores ? &out_ : nullptr, shared, parallel);
    const auto take = [&](int64_t i) {
      if (association_.wanted(i)) take_row(i, step, last);
    };
    if (shared) {
      parallel(count_, take);
    } else {
      for (int64_t i = 0; i < count_; ++i) take(i);
    }
  }

  /// The weighted patterns of a row, or values in the read-out. Each row is worked on by one thread alone.
  void take_row(int64_t i, int64_t step, bool last) {
    association_.solve(i);
    const auto width = last ? padded_width_ : padded_depth_;
    float* found = found_.data() + i * width;
    if (last && p_.dropout > 0) association_.drop(i);
    association_.sum(i, association_.weights(i), last, found);
    if (association_.is_nan(i)) {
      std::fill_n(found, width, kNaN);
    } else if (!association_.is_dead(i)) {
      association_.add_zero_weights(i, last, found);
    }
    if (out_.saved.sums != nullptr) {
      float* to = out_.saved.sums + 2 * (step * p_.rows() + rows_[i].index);
      to[0] = association_.largest(i);
      to[1] = association_.c(i);
    }
  }

  void update(int64_t i, int64_t step) {
    if (!active(i, step)) return;
    if (association_.is_dead(i)) return die(i);
    const float* next = found_.data() + i * padded_depth_;
    float* state = state_.data() + i * padded_depth_;
    residual_[i] = tile_ops().distance(next, state, padded_depth_);
    std::copy(next, next + padded_depth_, state);
    ++steps_[i];
    const auto eps = p_.eps[rows_[i].head];
    frozen_[i] = eps > 0 && !(residual_[i] > eps && std::isfinite(residual_[i]));
  }

  void die(int64_t i) {
    residual_[i] = 0.0f;
    frozen_[i] = true;
  }

  /// Keeps the present states for the backward pass as those after the updates `step` .. `end` - 1.
  void save_from(int64_t step, int64_t end) const {
    auto* saved = static_cast<float*>(out_.saved.states);
    if (saved == nullptr) return;
    for (; step < end; ++step) {
      for (int64_t i = 0; i < count_; ++i) {
        const auto at = step * p_.rows() + rows_[i].index;
        std::copy_n(state_.data() + i * padded_depth_, p_.depth, saved + at * p_.depth);
      }
    }
  }

  void finish(int64_t i) {
    const auto index = rows_[i].index;
    const bool dead = association_.is_dead(i);
    if (dead) die(i);
    out_.logsumexp[index] = association_.conjugate(i);
    out_.residual[index] = residual_[i];
    out_.steps[index] = steps_[i];
    out_.converged[index] = residual_[i] <= p_.eps[rows_[i].head] || dead;
  }

  const Call& p_;
  const Outputs& out_;
  const PackedPatterns& patterns_;
  const int64_t padded_depth_, padded_width_;
  SparseAssociation association_;
  int64_t count_ = 0;
  Row rows_[kTileRows];
  float residual_[kTileRows];
  int64_t steps_[kTileRows];
  bool frozen_[kTileRows];
  Buffer state_, scaled_, found_;
};

}  // namespace

void sparse_forward(const Call& call, const Outputs& outputs, const Parallel& parallel) {
  const PackedPatterns patterns(call, false, parallel);
  const auto tiles = patterns.tiles();
  if (patterns.threads_share_tiles(tiles)) {
    SparseTile tile(call, outputs, patterns);
    for (const auto& at : tiles) tile.run(at.set, at.first_row, true, parallel);
    return;
  }
  // Neighbouring tiles in one task, where they are small, share the cost of its scratch memory.
  const auto count = static_cast<int64_t>(tiles.size());
  const auto in_task = std::clamp<int64_t>(count / 64, 1, 8);
  parallel((count + in_task - 1) / in_task, [&](int64_t task) {
    SparseTile tile(call, outputs, patterns);
    for (auto i = task * in_task; i < std::min(count, (task + 1) * in_task); ++i) {
      tile.run(tiles[static_cast<size_t>(i)].set, tiles[static_cast<size_t>(i)].first_row, false, parallel);
    }
  });
}

}  // namespace hopfield::kernels
