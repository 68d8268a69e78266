#include "kernels/cpu/forward_tile.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kChangeSums = 4;

void merge(const Partial& total, const Partial& part, int64_t rows, int64_t width, bool first) {
  const auto& ops = tile_ops();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < kChangeSums; ++k) {
      float& sum = total.change[k * kMostTileRows + i];
      sum = first ? part.change[k * kMostTileRows + i] : sum + part.change[k * kMostTileRows + i];
    }
    float* values = total.values + i * width;
    const float* added = part.values + i * width;
    const bool empty = part.largest[i] == -kInfinity && part.sum[i] == 0.0f;
    if (first || (total.largest[i] == -kInfinity && total.sum[i] == 0.0f)) {
      total.largest[i] = part.largest[i];
      total.sum[i] = part.sum[i];
      total.kept[i] = part.kept[i];
      std::copy(added, added + width, values);
    } else if (!empty) {
      const auto largest = part.largest[i] > total.largest[i] ? part.largest[i] : total.largest[i];
      // The factor of a sum whose largest score is infinite is 1, not exp(inf - inf): NaN comes from the sums alone.
      const auto scale = [&](float of) { return of == largest ? 1.0f : std::exp(of - largest); };
      const auto before = scale(total.largest[i]), after = scale(part.largest[i]);
      total.sum[i] = before * total.sum[i] + after * part.sum[i];
      total.kept[i] = before * total.kept[i] + after * part.kept[i];
      total.largest[i] = largest;
      ops.combine(values, before, added, after, width);
    }
  }
}

float logsumexp(float largest, float sum) {
  return static_cast<float>(static_cast<double>(largest) + std::log(static_cast<double>(sum)));
}

}  // namespace

ForwardTile::ForwardTile(const Call& call, const Outputs& outputs, const PackedPatterns& patterns)
    : p_(call),
      out_(outputs),
      patterns_(patterns),
      padded_stored_(padded(p_.stored_width())),
      padded_width_(padded(p_.width)),
      padded_depth_(padded(p_.depth)) {
  state_.resize(kMostTileRows * padded_depth_);
  next_.resize(kMostTileRows * padded_depth_);
  scaled_.resize(kMostTileRows * padded_stored_);
  total_.resize(Partial::size(std::max(padded_stored_, padded_width_)));
  if (p_.per_head) {
    change_.resize(kMostTileRows * padded_stored_);
    mean_.resize(kMostTileRows * padded_stored_);
  }
}

void ForwardTile::begin(int64_t set, int64_t first_row) {
  set_ = set;
  const auto& s = patterns_.sets()[set];
  count_ = std::min(patterns_.tile_rows(s), s.rows - first_row);
  patterns_.find_rows(s, first_row, count_, rows_);
  for (int64_t i = 0; i < count_; ++i) {
    beta_[i] = p_.beta[rows_[i].head];
    steps_[i] = 0;
    residual_[i] = std::numeric_limits<float>::quiet_NaN();
    frozen_[i] = pending_[i] = false;
  }
  visible_ = visible_keys(p_, s, rows_, count_);
  load_rows(p_.state, p_.type, rows_, count_, p_.depth, state_.data());
  if (patterns_.is_one_chunk(s)) {
    kept_memory_.resize(patterns_.scratch_size());
    kept_ = patterns_.chunk(set, 0, kept_memory_.data());
  }
}

bool ForwardTile::wants_step(int64_t step) const {
  for (int64_t i = 0; i < count_; ++i) {
    if (active(i, step) || pending_[i]) return true;
  }
  return false;
}

void ForwardTile::begin_pass() {
  const auto& ops = tile_ops();
  const bool compares = any_pending();
  if (compares) std::copy_n(scaled_.data(), count_ * padded_stored_, change_.data());
  float* scaled = p_.is_pool() ? next_.data() : scaled_.data();
  for (int64_t i = 0; i < count_; ++i) {
    ops.scale(scaled + i * padded_depth_, state_.data() + i * padded_depth_, beta_[i], padded_depth_);
  }
  if (p_.is_pool()) to_instances(p_, rows_, count_, scaled, scaled_.data());
  for (int64_t i = 0; compares && i < count_; ++i) {
    float* change = change_.data() + i * padded_stored_;
    ops.combine(change, -1.0f, scaled_.data() + i * padded_stored_, 1.0f, padded_stored_);
    expected_[i] = ops.inner(change, mean_.data() + i * padded_stored_, padded_stored_);
  }
  std::fill_n(total().largest, count_, -kInfinity);
  std::fill_n(total().sum, count_, 0.0f);
  std::fill_n(total().kept, count_, 0.0f);
  if (patterns_.sets()[set_].keys == 0) {
    std::fill_n(total().change, kChangeSums * kMostTileRows, 0.0f);
    std::fill_n(total().values, count_ * std::max(padded_stored_, padded_width_), 0.0f);
  }
}

void ForwardTile::sum_block(int64_t block, bool last, const Partial& partial) const {
  const auto& ops = tile_ops();
  const auto width = last ? padded_width_ : padded_stored_;
  auto& w = Workbench::of_thread();
  w.fit(patterns_);
  w.values.resize(Partial::size(std::max(padded_stored_, padded_width_)));
  const auto& set = patterns_.sets()[set_];
  const bool is_kept = patterns_.is_one_chunk(set), compares = any_pending();
  const auto keys_row = padded(patterns_.chunk_size());
  const auto begin = patterns_.chunks_begin(block), end = patterns_.chunks_end(set, block);
  const auto part = end - begin == 1 ? partial : Partial::in(w.values.data());
  for (int64_t number = begin; number < end; ++number) {
    std::fill_n(part.change, kChangeSums * kMostTileRows, 0.0f);
    const auto first = number * patterns_.chunk_size();
    if (first >= visible_) {
      sum_nothing(part, width);
      if (last && out_.scores != nullptr) write_scores(hidden_chunk(first), keys_row);
      if (end - begin > 1) merge(partial, part, count_, width, number == begin);
      continue;
    }
    auto chunk = is_kept ? kept_ : patterns_.chunk(set_, number, w.chunk.data());
    chunk.count = std::min(chunk.count, visible_ - first);
    key_products(p_, chunk, scaled_.data(), count_, w.scores.data(), keys_row);
    hide_behind_queries(p_, rows_, count_, chunk.first, chunk.count, w.scores.data(), keys_row);
    if (p_.has_mask()) load_score_mask(p_.mask, rows_, count_, chunk.first, chunk.count, w.mask.data(), keys_row);
    if (last && out_.scores != nullptr) write_scores(chunk, keys_row);
    const ScoreTile tile{w.scores.data(), keys_row,       count_,
                         chunk.count,     chunk.key_bias, p_.has_mask() ? w.mask.data() : nullptr,
                         keys_row};
    if (compares) {
      key_products(p_, chunk, change_.data(), count_, w.gradients.data(), keys_row);
      ops.association_change(tile, w.gradients.data(), before_, expected_, part.change, kMostTileRows);
    }
    ops.exponentials(tile, part.largest, part.sum);
    std::copy(part.sum, part.sum + count_, part.kept);
    if (last && p_.dropout > 0) {
      apply_dropout(p_, rows_, count_, chunk.first, chunk.count, w.scores.data(), keys_row);
      for (int64_t i = 0; i < count_; ++i) {
        part.kept[i] = ops.sum(w.scores.data() + i * keys_row, chunk.count);
      }
    }
    ops.gemm({count_, last ? p_.width : p_.stored_width(), chunk.count, w.scores.data(), keys_row, 1,
              last ? chunk.values : chunk.keys, last ? chunk.value_row : chunk.key_row, ops.panel, part.values, width,
              false});
    if (end - begin > 1) merge(partial, part, count_, width, number == begin);
  }
}

void ForwardTile::sum_nothing(const Partial& partial, int64_t width) const {
  std::fill_n(partial.largest, count_, -kInfinity);
  std::fill_n(partial.sum, count_, 0.0f);
  std::fill_n(partial.kept, count_, 0.0f);
  std::fill_n(partial.values, count_ * width, 0.0f);
}

void ForwardTile::add_block(const Partial& partial, bool last, bool first) {
  merge(total(), partial, count_, last ? padded_width_ : padded_stored_, first);
}

void ForwardTile::sum_all_blocks(bool last) {
  const auto blocks = patterns_.blocks(patterns_.sets()[set_]);
  begin_pass();
  if (blocks == 1) return sum_block(0, last, total());
  for (int64_t block = 0; block < blocks; ++block) {
    auto& memory = Workbench::of_thread().block;
    memory.resize(Partial::size(std::max(padded_stored_, padded_width_)));
    const auto partial = Partial::in(memory.data());
    sum_block(block, last, partial);
    add_block(partial, last, block == 0);
  }
}

void ForwardTile::add_one_more_score(int64_t width) {
  const auto sums = total();
  for (int64_t i = 0; i < count_; ++i) {
    if (is_dead(i)) continue;
    const auto largest = std::max(sums.largest[i], 0.0f);
    const auto scale = sums.largest[i] == largest ? 1.0f : std::exp(sums.largest[i] - largest);
    sums.sum[i] = scale * sums.sum[i] + std::exp(-largest);
    sums.kept[i] *= scale;
    sums.largest[i] = largest;
    tile_ops().scale(sums.values + i * width, sums.values + i * width, scale, width);
  }
}

void ForwardTile::update(int64_t step) {
  const auto& ops = tile_ops();
  if (p_.separation == Separation::softmax1) add_one_more_score(padded_stored_);
  const auto sums = total();
  for (int64_t i = 0; i < count_; ++i) {
    float* mean = sums.values + i * padded_stored_;
    if (!is_dead(i)) ops.divide(mean, sums.sum[i], padded_stored_);
    if (p_.per_head) {
      std::copy_n(mean, padded_stored_, mean_.data() + i * padded_stored_);
      before_[i] = logsumexp(sums.largest[i], sums.sum[i]);
    }
    if (out_.saved.means != nullptr) {
      std::copy_n(mean, p_.stored_width(), out_.saved.means + (step * p_.rows() + rows_[i].index) * p_.stored_width());
    }
  }
  const float* all_next = sums.values;
  if (p_.is_pool()) {
    to_states(p_, rows_, count_, sums.values, next_.data());
    for (int64_t i = 0; i < count_ && p_.map.bias != nullptr; ++i) {
      ops.combine(next_.data() + i * padded_depth_, 1.0f, p_.map.bias + rows_[i].head * padded_depth_, 1.0f,
                  padded_depth_);
    }
    all_next = next_.data();
  }
  for (int64_t i = 0; i < count_; ++i) {
    float* state = state_.data() + i * padded_depth_;
    save_sums(i, step);
    if (active(i, step)) {
      const float* next = all_next + i * padded_depth_;
      if (is_dead(i)) {
        die(i);
      } else {
        const auto moved = ops.distance(next, state, padded_depth_);
        std::copy(next, next + padded_depth_, state);
        ++steps_[i];
        pending_[i] = p_.per_head;
        if (!pending_[i]) set_residual(i, moved);
      }
    }
  }
  save_from(step, step + 1);
}

void ForwardTile::set_residual(int64_t i, float residual) {
  pending_[i] = false;
  residual_[i] = residual;
  const auto eps = p_.eps[rows_[i].head];
  frozen_[i] = eps > 0 && !(residual > eps && std::isfinite(residual));
}

double ForwardTile::squared_change(int64_t i) const {
  const auto sum = [&](int64_t k) { return static_cast<double>(total().change[k * kMostTileRows + i]); };
  const auto u = sum(0), a2 = sum(1), a2u = sum(2), a2u2 = sum(3);
  return std::max((a2u2 - 2 * u * a2u + u * u * a2) / ((1 + u) * (1 + u)), 0.0);
}

void ForwardTile::save_from(int64_t step, int64_t end) const {
  auto* saved = static_cast<float*>(out_.saved.states);
  if (saved == nullptr) return;
  for (; step < end; ++step) {
    for (int64_t i = 0; i < count_; ++i) {
      const auto at = step * p_.rows() + rows_[i].index;
      std::copy_n(state_.data() + i * padded_depth_, p_.depth, saved + at * p_.depth);
    }
  }
}

void ForwardTile::finish() {
  const auto& ops = tile_ops();
  if (p_.separation == Separation::softmax1) add_one_more_score(padded_width_);
  const auto sums = total();
  for (int64_t i = 0; i < count_; ++i) {
    const auto& row = rows_[i];
    float* output = sums.values + i * padded_width_;
    if (is_dead(i)) {
      die(i);
      std::fill(output, output + padded_width_, 0.0f);
    } else {
      ops.divide(output, sums.sum[i], padded_width_);
    }
    if (out_.saved.output != nullptr) std::copy(output, output + p_.width, out_.saved.output + row.index * p_.width);
    save_sums(i, p_.most_steps);
    if (out_.mass != nullptr) out_.mass[row.index] = is_dead(i) ? 0.0f : sums.kept[i] / sums.sum[i];
    out_.logsumexp[row.index] = is_dead(i) ? -kInfinity : logsumexp(sums.largest[i], sums.sum[i]);
    out_.residual[row.index] = residual_[i];
    out_.steps[row.index] = steps_[i];
    out_.converged[row.index] = residual_[i] <= p_.eps[row.head] || is_dead(i);
  }
  store_rows(sums.values, out_.output, p_.type, rows_, count_, p_.width);
  if (out_.state.data != nullptr) store_rows(state_.data(), out_.state, p_.type, rows_, count_, p_.depth);
}

bool ForwardTile::is_dead(int64_t i) const { return total().largest[i] == -kInfinity && total().sum[i] == 0.0f; }

void ForwardTile::die(int64_t i) {
  residual_[i] = 0.0f;
  frozen_[i] = true;
}

bool ForwardTile::any_pending() const {
  return std::any_of(pending_, pending_ + count_, [](bool is) { return is; });
}

void ForwardTile::write_scores(const Chunk& chunk, int64_t keys_row) const {
  const auto& set = patterns_.sets()[set_];
  const auto& w = Workbench::of_thread();
  for (int64_t i = 0; i < count_; ++i) {
    const auto& row = rows_[i];
    float* to = out_.scores + row.batch * out_.score_batch + row.head * out_.score_head + row.query * out_.score_query +
                (set.first + chunk.first) * out_.score_key;
    for (int64_t j = 0; j < chunk.count; ++j) {
      const float key_bias = chunk.key_bias != nullptr ? chunk.key_bias[j] : 0.0f;
      const float mask = p_.has_mask() ? w.mask.data()[i * keys_row + j] : 0.0f;
      const bool excluded = key_bias == -kInfinity || mask == -kInfinity;
      const float score = w.scores.data()[i * keys_row + j] + key_bias + mask;
      to[j * out_.score_key] = excluded ? -kInfinity : score;
    }
    const auto all = std::min(patterns_.chunk_size(), set.keys - chunk.first);
    for (int64_t j = chunk.count; j < all; ++j) to[j * out_.score_key] = -kInfinity;
  }
}

void ForwardTile::save_sums(int64_t i, int64_t step) const {
  if (out_.saved.sums == nullptr) return;
  float* to = out_.saved.sums + 2 * (step * p_.rows() + rows_[i].index);
  to[0] = total().largest[i];
  to[1] = total().sum[i];
}

}  // namespace hopfield::kernels
