#include "kernels/cpu/sparse_backward.h"

#include "kernels/cpu/pattern_sums.h"
#include "kernels/cpu/sparse_association.h"

#include <algorithm>
#include <vector>

// With the weights y = entmax(t) of scores t = beta xi_t K^T, g the gradient of what the association gave (Z, or
// xi_{t+1}), dP = g V^T (or g K^T), and s_i = y_i^(2 - alpha) where y_i > 0:
//
//     dt     = s * (dP - <s, dP> / sum s) + y * (gradient of Omega*)
//     dxi_t  = beta dt K
//     dV    += y^T g              (dK for an update)
//     dK    += beta dt^T xi_t
//     dbeta += xi_t . (dt K)
//
// dt is zero where y is: all sums run over the keys that have a weight. These are found again from the saved states,
// largest scores and c.

namespace hopfield::kernels {
namespace {

/// A tile of queries during the backward pass, from the last association to the first.
class SparseBackwardTile {
 public:
  SparseBackwardTile(const Call& call, const Gradients& gradients, const PackedPatterns& patterns)
      : p_(call),
        g_(gradients),
        patterns_(patterns),
        padded_depth_(padded(p_.depth)),
        padded_width_(padded(p_.width)),
        association_(call, patterns),
        score_gradients_(kTileRows),
        read_(kTileRows) {
    for (auto* buffer : {&state_, &scaled_, &carried_, &product_}) buffer->resize(kTileRows * padded_depth_);
    incoming_.resize(kTileRows * std::max(padded_depth_, padded_width_));
  }

  /// All associations of a tile.
  /// @param to      sums of the patterns' gradients, or null
  /// @param shared  whether the threads of `parallel` share this tile
  void run(const TileGroup& group, int64_t first_row, const PatternGradients* to, bool shared,
           const Parallel& parallel) {
    begin(group, first_row);
    for (int64_t step = p_.most_steps; step >= 0; --step) {
      if (skips(step)) continue;
      begin_step(step);
      association_.collect(scaled_.data(), is_last(), nullptr, shared, parallel);
      const auto over = [&](int64_t tasks, const auto& call) {
        if (shared) return parallel(tasks, call);
        for (int64_t task = 0; task < tasks; ++task) call(task);
      };
      over(count_, [this](int64_t i) {
        if (association_.wanted(i)) take_row(i);
      });
      if (to == nullptr) continue;
      // Each range of keys is worked on by one thread alone.
      const auto keys = patterns_.sets()[group.set].keys, range = patterns_.chunk_size();
      over((keys + range - 1) / range,
           [&](int64_t i) { add_patterns(*to, i * range, std::min(keys, (i + 1) * range)); });
    }
    finish();
  }

 private:
  bool is_last() const { return step_ == p_.most_steps; }
  int64_t steps(int64_t i) const { return g_.steps[rows_[i].index]; }
  /// Whether a gradient passes the row's update after `step`.
  bool passes(int64_t i, int64_t step) const { return step < steps(i) && step >= steps(i) - g_.last_steps; }

  void begin(const TileGroup& group, int64_t first_row) {
    const auto& set = patterns_.sets()[group.set];
    count_ = std::min(kTileRows, group.end_row - first_row);
    patterns_.find_rows(set, first_row, count_, rows_);
    for (int64_t i = 0; i < count_; ++i) {
      beta_gradient_[i] = 0.0f;
    }
    std::fill_n(carried_.data(), count_ * padded_depth_, 0.0f);
    if (g_.state.data != nullptr) {
      load_rows(g_.state, ElementType::float32, rows_, count_, p_.depth, carried_.data());
    }
    association_.begin(group.set, rows_, count_);
  }

  /// Whether no row of the tile has a gradient that passes through this step's association.
  bool skips(int64_t step) const {
    if (step == p_.most_steps) return false;
    for (int64_t i = 0; i < count_; ++i) {
      if (passes(i, step)) return false;
    }
    return true;
  }

  void begin_step(int64_t step) {
    step_ = step;
    incoming_row_ = is_last() ? padded_width_ : padded_depth_;
    if (step == 0) {
      load_rows(p_.state, p_.type, rows_, count_, p_.depth, state_.data());
    } else {
      for (int64_t i = 0; i < count_; ++i) {
        const auto at = ((step - 1) * p_.rows() + rows_[i].index) * p_.depth;
        tile_ops().load(static_cast<const float*>(g_.saved.states) + at, ElementType::float32, 0, 1, p_.depth,
                        state_.data() + i * padded_depth_);
      }
    }
    if (is_last()) {
      load_rows(g_.output, ElementType::float32, rows_, count_, p_.width, incoming_.data());
    } else {
      std::copy_n(carried_.data(), count_ * padded_depth_, incoming_.data());
    }
    for (int64_t i = 0; i < count_; ++i) {
      tile_ops().scale(scaled_.data() + i * padded_depth_, state_.data() + i * padded_depth_, p_.beta[rows_[i].head],
                       padded_depth_);
      const float* sums = g_.saved.sums + 2 * (step * p_.rows() + rows_[i].index);
      association_.want(i, is_last() || passes(i, step));
      association_.know(i, sums[0], sums[1]);
    }
  }

  /// The gradients of a row's scores, and of its state. Each row is worked on by one thread alone.
  void take_row(int64_t i) {
    association_.solve(i);
    if (association_.is_nan(i)) association_.fill_with_nan(i);
    const auto& ops = tile_ops();
    const auto count = association_.count(i);
    const float* weights = association_.weights(i);
    auto& gradients = fit(score_gradients_[i], count);
    auto& read = fit(read_[i], count);
    auto& slopes = fit(slopes_of_thread(), count);
    association_.products(i, incoming_.data() + i * incoming_row_, is_last(), gradients.data());
    std::copy_n(weights, count, read.data());
    if (is_last() && p_.dropout > 0) {
      for (int64_t j = 0; j < count; ++j) {
        const auto factor = dropout_factor(p_, rows_[i], association_.keys(i)[j]);
        gradients[j] *= factor;
        read[j] *= factor;
      }
    }
    ops.sparse_slopes(weights, count, p_.alpha, slopes.data());
    double sum = 0, total = 0;
    for (int64_t j = 0; j < count; ++j) {
      sum += static_cast<double>(slopes[j]);
      total += static_cast<double>(slopes[j]) * static_cast<double>(gradients[j]);
    }
    const auto mean = static_cast<float>(total / sum);
    const auto extra = is_last() && g_.logsumexp != nullptr ? g_.logsumexp[rows_[i].index] : 0.0f;
    for (int64_t j = 0; j < count; ++j) gradients[j] = slopes[j] * (gradients[j] - mean) + weights[j] * extra;

    float* product = product_.data() + i * padded_depth_;
    association_.sum(i, gradients.data(), false, product);
    beta_gradient_[i] += ops.inner(state_.data() + i * padded_depth_, product, padded_depth_);
    // The gradient that came in for the state after this update has been used up.
    ops.combine(carried_.data() + i * padded_depth_, is_last() ? 1.0f : 0.0f, product, p_.beta[rows_[i].head],
                padded_depth_);
  }

  /// What the rows of a tile give to the keys of a range, key by key.
  struct ByKey {
    std::vector<int64_t> ends;  ///< where a key's entries end; those of the first key begin at 0
    std::vector<int64_t> rows;
    std::vector<float> score_gradients, read;

    static ByKey& of_thread() {
      thread_local ByKey by_key;
      return by_key;
    }
  };

  /// Calls `run(key, i, j)` for the entries of a range of keys, row by row: entry j of row i has that key.
  template <typename Run>
  void for_entries(int64_t begin, int64_t end, const Run& run) const {
    for (int64_t i = 0; i < count_; ++i) {
      if (!association_.wanted(i)) continue;
      const auto* keys = association_.keys(i);
      const auto count = association_.count(i);
      for (auto j = std::lower_bound(keys, keys + count, begin) - keys; j < count && keys[j] < end; ++j) {
        run(keys[j], i, j);
      }
    }
  }

  /// Adds to the gradients of the patterns `begin` .. `end` - 1. What a key gets from the rows of a tile is summed in
  /// registers, which takes less time and leaves smaller errors than if it were added row by row.
  void add_patterns(const PatternGradients& to, int64_t begin, int64_t end) const {
    auto& bins = ByKey::of_thread();
    bins.ends.assign(static_cast<size_t>(end - begin + 1), 0);
    for_entries(begin, end, [&](int64_t key, int64_t, int64_t) { ++bins.ends[key - begin + 1]; });
    for (int64_t k = 0; k < end - begin; ++k) bins.ends[k + 1] += bins.ends[k];
    const auto entries = static_cast<size_t>(bins.ends.back());
    bins.rows.resize(entries);
    bins.score_gradients.resize(entries);
    bins.read.resize(entries);
    for_entries(begin, end, [&](int64_t key, int64_t i, int64_t j) {
      const auto at = bins.ends[key - begin]++;
      bins.rows[at] = i;
      bins.score_gradients[at] = score_gradients_[i][j];
      bins.read[at] = read_[i][j];
    });
    const bool to_values = is_last() && p_.has_values();
    for (int64_t key = begin, first = 0; key < end; ++key) {
      const auto count = bins.ends[key - begin] - first;
      if (count == 0) continue;
      float* of_key = to.keys + key * to.key_row;
      float* of_read = to_values ? to.values + key * to.value_row : of_key;
      add_rows(bins, first, count, bins.read.data(), incoming_.data(), incoming_row_, of_read);
      add_rows(bins, first, count, bins.score_gradients.data(), scaled_.data(), padded_depth_, of_key);
      first += count;
    }
  }

  /// Adds the weighted rows of one key's entries to its gradient.
  static void add_rows(const ByKey& bins, int64_t first, int64_t count, const float* weights, const float* rows,
                       int64_t width, float* target) {
    constexpr int64_t kRowsInSum = 32;
    const float* places[kRowsInSum];
    for (int64_t done = 0; done < count; done += kRowsInSum) {
      const auto taken = std::min(kRowsInSum, count - done);
      for (int64_t k = 0; k < taken; ++k) places[k] = rows + bins.rows[first + done + k] * width;
      tile_ops().add_weighted(weights + first + done, places, taken, width, target);
    }
  }

  void finish() const {
    for (int64_t i = 0; i < count_; ++i) {
      g_.beta[rows_[i].index] = beta_gradient_[i];
      // The state before the last updates counts as a constant.
      if (steps(i) >= g_.last_steps) std::fill_n(carried_.data() + i * padded_depth_, padded_depth_, 0.0f);
    }
    store_rows(carried_.data(), g_.query, p_.type, rows_, count_, p_.depth);
  }

  static std::vector<float>& fit(std::vector<float>& numbers, int64_t count) {
    const auto size = static_cast<size_t>(count + kPadding);
    if (numbers.size() < size) numbers.resize(size);
    return numbers;
  }

  static std::vector<float>& slopes_of_thread() {
    thread_local std::vector<float> slopes;
    return slopes;
  }

  const Call& p_;
  const Gradients& g_;
  const PackedPatterns& patterns_;
  const int64_t padded_depth_, padded_width_;
  SparseAssociation association_;
  int64_t count_ = 0, step_ = 0, incoming_row_ = 0;
  Row rows_[kTileRows];
  float beta_gradient_[kTileRows];
  Buffer state_, scaled_, incoming_, carried_, product_;
  // Of the keys that have a weight: the gradients of their scores, and their weights after dropout.
  std::vector<std::vector<float>> score_gradients_, read_;
};

}  // namespace

void sparse_backward(const Call& call, const Gradients& gradients, const Parallel& parallel) {
  const PackedPatterns patterns(call, false, parallel);
  const PatternSums sums(call, gradients, patterns);
  const auto run_group = [&](const TileGroup& group, bool shared) {
    PatternGradients to{};
    const auto keys = patterns.sets()[group.set].keys;
    if (sums.wanted()) {
      to = sums.of(group);
      const auto range = patterns.chunk_size() * kChunksInBlock;
      const auto clear = [&](int64_t i) { sums.clear(group, i * range, std::min(range, keys - i * range)); };
      if (shared) {
        parallel((keys + range - 1) / range, clear);
      } else {
        sums.clear(group, 0, keys);
      }
    }
    SparseBackwardTile tile(call, gradients, patterns);
    for (auto row = group.first_row; row < group.end_row; row += kTileRows) {
      tile.run(group, row, sums.wanted() ? &to : nullptr, shared, parallel);
    }
  };
  int64_t blocks = 0;
  for (const auto& set : patterns.sets()) blocks = std::max(blocks, patterns.blocks(set));
  constexpr size_t kFewGroups = 16;
  // Each way of sharing the work out gives the same bits.
  if (sums.groups().size() < kFewGroups && blocks > 1) {
    for (const auto& group : sums.groups()) run_group(group, true);
  } else {
    parallel(static_cast<int64_t>(sums.groups().size()), [&](int64_t i) { run_group(sums.groups()[i], false); });
  }
  if (sums.wanted()) sums.write(parallel, {});
}

}  // namespace hopfield::kernels
