#include "kernels/cpu/forward_tile.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kChangeSums = 4;

void merge(const Partial& total, const Partial& part, int64_t rows, int64_t room, bool first) {
  const auto& ops = tile_ops();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < kChangeSums; ++k) {
      float& sum = total.change[k * kTileRows + i];
      sum = first ? part.change[k * kTileRows + i] : sum + part.change[k * kTileRows + i];
    }
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
  Buffer scores, pair, shifts, values, chunk, block;

  void fit(const Stored& stored, int64_t room) {
    const auto keys = padded(stored.chunk_size());
    for (auto* buffer : {&scores, &pair, &shifts}) buffer->resize(kTileRows * keys);
    values.resize(Partial::size(room));
    block.resize(Partial::size(room));
    chunk.resize(stored.scratch_size());
  }
};

thread_local Workbench workbench;

}  // namespace

ForwardTile::ForwardTile(const RetrieveProblem& problem, const RetrieveOutputs& outputs, const Stored& stored,
                         int64_t most_steps)
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
  if (p_.compares_heads) {
    change_.resize(kTileRows * depth_room_);
    mean_.resize(kTileRows * depth_room_);
  }
}

void ForwardTile::begin(int64_t set, int64_t first_row) {
  set_ = set;
  const auto& s = stored_.sets()[set];
  count_ = std::min(kTileRows, s.rows - first_row);
  for (int64_t i = 0; i < count_; ++i) {
    rows_[i] = stored_.row(s, first_row + i);
    beta_[i] = p_.beta[rows_[i].head];
    steps_[i] = 0;
    residual_[i] = std::numeric_limits<float>::quiet_NaN();
    frozen_[i] = pending_[i] = false;
  }
  load_rows(p_.state, p_.type, rows_, count_, state_depth_, state_.data());
  if (stored_.is_one_chunk(s)) {
    kept_memory_.resize(stored_.scratch_size());
    kept_ = stored_.chunk(set, 0, kept_memory_.data());
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
  if (compares) std::copy_n(scaled_.data(), count_ * depth_room_, change_.data());
  float* scaled = p_.map != nullptr ? next_.data() : scaled_.data();
  for (int64_t i = 0; i < count_; ++i) {
    ops.scale(scaled + i * state_room_, state_.data() + i * state_room_, beta_[i], state_room_);
  }
  if (p_.map != nullptr) to_instances(p_, rows_, count_, scaled, scaled_.data());
  for (int64_t i = 0; compares && i < count_; ++i) {
    float* change = change_.data() + i * depth_room_;
    ops.combine(change, -1.0f, scaled_.data() + i * depth_room_, 1.0f, depth_room_);
    expected_[i] = ops.inner(change, mean_.data() + i * depth_room_, depth_room_);
  }
  std::fill_n(total().largest, count_, -kInfinity);
  std::fill_n(total().sum, count_, 0.0f);
  std::fill_n(total().kept, count_, 0.0f);
  if (stored_.sets()[set_].keys == 0) {
    std::fill_n(total().change, kChangeSums * kTileRows, 0.0f);
    std::fill_n(total().values, count_ * std::max(depth_room_, width_room_), 0.0f);
  }
}

void ForwardTile::sum_block(int64_t block, bool last, const Partial& partial) const {
  const auto& ops = tile_ops();
  const auto room = last ? width_room_ : depth_room_;
  auto& w = workbench;
  w.fit(stored_, std::max(depth_room_, width_room_));
  const auto& set = stored_.sets()[set_];
  const bool is_kept = stored_.is_one_chunk(set), compares = any_pending();
  const auto keys_row = padded(stored_.chunk_size());
  const auto begin = stored_.chunks_begin(block), end = stored_.chunks_end(set, block);
  const auto part = end - begin == 1 ? partial : Partial::in(w.values.data());
  for (int64_t number = begin; number < end; ++number) {
    std::fill_n(part.change, kChangeSums * kTileRows, 0.0f);
    const auto chunk = is_kept ? kept_ : stored_.chunk(set_, number, w.chunk.data());
    products(scaled_.data(), chunk, w.scores.data(), keys_row);
    const bool paired = p_.pair.kind != PairMask::Kind::none;
    if (paired) load_pair_mask(p_.pair, rows_, count_, chunk.first, chunk.count, w.pair.data(), keys_row);
    if (last && out_.scores != nullptr) write_scores(chunk, keys_row);
    const ScoreTile tile{
        w.scores.data(), keys_row, count_, chunk.count, chunk.key_bias, paired ? w.pair.data() : nullptr, keys_row};
    if (compares) {
      products(change_.data(), chunk, w.shifts.data(), keys_row);
      ops.association_change(tile, w.shifts.data(), before_, expected_, part.change, kTileRows);
    }
    ops.exponentials(tile, part.largest, part.sum);
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

void ForwardTile::add_block(const Partial& partial, bool last, bool first) {
  merge(total(), partial, count_, last ? width_room_ : depth_room_, first);
}

void ForwardTile::sum_all_blocks(bool last) {
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

void ForwardTile::update(int64_t step) {
  const auto& ops = tile_ops();
  const auto sums = total();
  for (int64_t i = 0; i < count_; ++i) {
    float* mean = sums.values + i * depth_room_;
    if (!is_dead(i)) ops.divide(mean, sums.sum[i], depth_room_);
    if (p_.compares_heads) {
      std::copy_n(mean, depth_room_, mean_.data() + i * depth_room_);
      before_[i] = logsumexp(sums.largest[i], sums.sum[i]);
    }
    if (out_.saved_means != nullptr) {
      std::copy_n(mean, p_.depth, out_.saved_means + (step * total_rows() + rows_[i].index) * p_.depth);
    }
  }
  const float* all_next = sums.values;
  if (p_.map != nullptr) {
    to_states(p_, rows_, count_, sums.values, next_.data());
    for (int64_t i = 0; i < count_ && p_.map->bias != nullptr; ++i) {
      ops.combine(next_.data() + i * state_room_, 1.0f, p_.map->bias + rows_[i].head * state_room_, 1.0f, state_room_);
    }
    all_next = next_.data();
  }
  for (int64_t i = 0; i < count_; ++i) {
    float* state = state_.data() + i * state_room_;
    save_sums(i, step);
    if (active(i, step)) {
      const float* next = all_next + i * state_room_;
      if (is_dead(i)) {
        die(i);
      } else {
        const auto moved = ops.distance(next, state, state_room_);
        std::copy(next, next + state_room_, state);
        ++steps_[i];
        pending_[i] = p_.compares_heads;
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
  const auto sum = [&](int64_t k) { return static_cast<double>(total().change[k * kTileRows + i]); };
  const auto u = sum(0), a2 = sum(1), a2u = sum(2), a2u2 = sum(3);
  return std::max((a2u2 - 2 * u * a2u + u * u * a2) / ((1 + u) * (1 + u)), 0.0);
}

void ForwardTile::save_from(int64_t step, int64_t end) const {
  if (out_.saved_states == nullptr) return;
  for (; step < end; ++step) {
    for (int64_t i = 0; i < count_; ++i) {
      const auto at = step * total_rows() + rows_[i].index;
      std::copy_n(state_.data() + i * state_room_, state_depth_, out_.saved_states + at * state_depth_);
    }
  }
}

void ForwardTile::finish() {
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
  if (out_.state.data != nullptr) store_rows(state_.data(), out_.state, p_.type, rows_, count_, state_depth_);
}

bool ForwardTile::is_dead(int64_t i) const { return total().largest[i] == -kInfinity && total().sum[i] == 0.0f; }

void ForwardTile::die(int64_t i) {
  residual_[i] = 0.0f;
  frozen_[i] = true;
}

bool ForwardTile::any_pending() const {
  return std::any_of(pending_, pending_ + count_, [](bool is) { return is; });
}

void ForwardTile::products(const float* x, const Chunk& chunk, float* target, int64_t target_row) const {
  const auto& ops = tile_ops();
  if (chunk.keys_transposed != nullptr) {
    ops.gemm({count_, chunk.count, p_.depth, x, depth_room_, 1, chunk.keys_transposed, chunk.panel_row,
              p_.depth * chunk.panel_row, target, target_row, false});
  } else {
    ops.dot(x, depth_room_, count_, chunk.keys, chunk.key_row, chunk.count, p_.depth, target, target_row, chunk.next,
            chunk.next_row);
  }
}

void ForwardTile::write_scores(const Chunk& chunk, int64_t keys_row) const {
  const auto& set = stored_.sets()[set_];
  const bool paired = p_.pair.kind != PairMask::Kind::none;
  for (int64_t i = 0; i < count_; ++i) {
    const auto& row = rows_[i];
    float* to = out_.scores + row.batch * out_.score_batch + row.head * out_.score_head + row.query * out_.score_query +
                (set.first + chunk.first) * out_.score_key;
    for (int64_t j = 0; j < chunk.count; ++j) {
      const float key_bias = chunk.key_bias != nullptr ? chunk.key_bias[j] : 0.0f;
      const float pair = paired ? workbench.pair.data()[i * keys_row + j] : 0.0f;
      const bool excluded = key_bias == -kInfinity || pair == -kInfinity;
      const float score = workbench.scores.data()[i * keys_row + j] + key_bias + pair;
      to[j * out_.score_key] = excluded ? -kInfinity : score;
    }
  }
}

void ForwardTile::save_sums(int64_t i, int64_t step) const {
  if (out_.saved_sums == nullptr) return;
  float* to = out_.saved_sums + 2 * (step * total_rows() + rows_[i].index);
  to[0] = total().largest[i];
  to[1] = total().sum[i];
}

}  // namespace hopfield::kernels
