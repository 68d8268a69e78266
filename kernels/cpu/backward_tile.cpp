#include "kernels/cpu/backward_tile.h"

#include <algorithm>

namespace hopfield::kernels {
BackwardTile::BackwardTile(const Call& call, const Gradients& gradients, const PackedPatterns& patterns, bool keep_all)
    : p_(call),
      g_(gradients),
      patterns_(patterns),
      padded_stored_(padded(p_.stored_width())),
      padded_width_(padded(p_.width)),
      padded_depth_(padded(p_.depth)),
      padded_widest_(std::max({padded_stored_, padded_width_, padded_depth_})),
      associations_(static_cast<size_t>(keep_all ? p_.most_steps + 1 : 1)) {
  for (auto* buffer : {&state_, &carried_, &total_, &mapped_}) buffer->resize(kTileRows * padded_widest_);
  for (auto& association : associations_) {
    association.scaled.resize(kTileRows * padded_widest_);
    association.incoming.resize(kTileRows * padded_widest_);
  }
}

void BackwardTile::begin(int64_t set, int64_t first_row, int64_t end_row) {
  set_ = set;
  const auto& s = patterns_.sets()[set];
  count_ = std::min(kTileRows, end_row - first_row);
  patterns_.find_rows(s, first_row, count_, rows_);
  for (int64_t i = 0; i < count_; ++i) {
    beta_[i] = p_.beta[rows_[i].head];
    beta_gradient_[i] = 0.0f;
    float* carried = carried_.data() + i * padded_depth_;
    std::fill(carried, carried + padded_depth_, 0.0f);
  }
  visible_ = visible_keys(p_, s, rows_, count_);
  if (g_.state.data != nullptr) {
    load_rows(g_.state, ElementType::float32, rows_, count_, p_.depth, carried_.data());
  }
  if (patterns_.is_one_chunk(s)) {
    kept_memory_.resize(patterns_.scratch_size());
    kept_ = patterns_.chunk(set, 0, kept_memory_.data());
  }
}

bool BackwardTile::skips(int64_t step) const {
  if (step == p_.most_steps || p_.is_pool()) return false;  // the gradient of a pool's map needs all of them
  for (int64_t i = 0; i < count_; ++i) {
    if (passes(i, step)) return false;
  }
  return true;
}

void BackwardTile::begin_step(int64_t step) {
  step_ = step;
  auto& a = current();
  a.step = step;
  a.incoming_row = is_last() ? padded_width_ : padded_stored_;
  const auto& ops = tile_ops();
  float* scaled = p_.is_pool() ? mapped_.data() : a.scaled.data();
  if (step == 0) {
    load_rows(p_.state, p_.type, rows_, count_, p_.depth, state_.data());
  } else {
    for (int64_t i = 0; i < count_; ++i) load_state(i, step, state_.data() + i * padded_depth_);
  }
  for (int64_t i = 0; i < count_; ++i) {
    ops.scale(scaled + i * padded_depth_, state_.data() + i * padded_depth_, beta_[i], padded_depth_);
  }
  if (p_.is_pool()) to_instances(p_, rows_, count_, scaled, a.scaled.data());
  if (!is_last()) {
    take_carried(a.incoming.data());
  } else {
    load_rows(g_.output, ElementType::float32, rows_, count_, p_.width, a.incoming.data());
  }
  // Of a single chunk, D is the sum of the very products, and the mean is not asked for.
  const bool sums_products = patterns_.is_one_chunk(patterns_.sets()[set_]);
  for (int64_t i = 0; i < count_; ++i) {
    const auto number = rows_[i].index;
    a.largest[i] = g_.saved.sums[2 * (step * p_.rows() + number)];
    a.sum[i] = g_.saved.sums[2 * (step * p_.rows() + number) + 1];
    a.extra[i] = is_last() && g_.logsumexp != nullptr ? g_.logsumexp[number] : 0.0f;
    float* incoming = a.incoming.data() + i * a.incoming_row;
    if (is_last() && sums_products) {
      a.mean[i] = 0.0f;
    } else if (is_last()) {
      ops.load(g_.saved.output + number * p_.width, ElementType::float32, 0, 1, p_.width, total_.data());
      a.mean[i] = product(incoming, total_.data(), p_.width);
      if (g_.mass != nullptr && p_.dropout > 0) a.mean[i] += g_.mass[number] * g_.saved.mass[number];
    } else if (passes(i, step_) && sums_products) {
      a.mean[i] = 0.0f;
    } else if (passes(i, step_)) {
      if (p_.is_pool()) {
        ops.load(g_.saved.means + (step * p_.rows() + number) * p_.stored_width(), ElementType::float32, 0, 1,
                 p_.stored_width(), total_.data());
      } else {
        load_state(i, step + 1, total_.data());
      }
      a.mean[i] = product(incoming, total_.data(), p_.stored_width());
    } else {
      a.mean[i] = 0.0f;
      a.sum[i] = 0.0f;  // no association
    }
  }
}

void BackwardTile::add_block(int64_t block, const PatternGradients* gradients, float* product) {
  const auto& ops = tile_ops();
  auto& w = Workbench::of_thread();
  w.fit(patterns_);
  const auto& a = current();
  const auto row = padded(patterns_.chunk_size());
  const auto begin = patterns_.chunks_begin(block), size = patterns_.chunk_size();
  const auto end = std::min(patterns_.chunks_end(patterns_.sets()[set_], block), (visible_ + size - 1) / size);
  if (begin >= end) std::fill_n(product, count_ * padded_stored_, 0.0f);
  for (auto number = begin; number < end; ++number) {
    auto chunk = take_chunk(number);
    chunk.count = std::min(chunk.count, visible_ - chunk.first);
    associate(a, chunk, w.scores.data(), w.gradients.data());
    if (gradients != nullptr) {
      // Through what was read: dV += P^T g, or dK for an update.
      const bool to_values = is_last() && p_.has_values();
      const auto target_row = to_values ? gradients->value_row : gradients->key_row;
      float* target = (to_values ? gradients->values : gradients->keys) + chunk.first * target_row;
      ops.gemm({chunk.count, is_last() ? p_.width : p_.stored_width(), count_, w.scores.data(), 1, row,
                a.incoming.data(), a.incoming_row, ops.panel, target, target_row, true});
      // Through the scores: dK += beta dS^T xi.
      ops.gemm({chunk.count, p_.stored_width(), count_, w.gradients.data(), 1, row, a.scaled.data(), padded_stored_,
                ops.panel, gradients->keys + chunk.first * gradients->key_row, gradients->key_row, true});
    }
    ops.gemm({count_, p_.stored_width(), chunk.count, w.gradients.data(), row, 1, chunk.keys, chunk.key_row, ops.panel,
              product, padded_stored_, number != begin});
  }
}

void BackwardTile::add_all_patterns(int64_t block, float* gradient, int64_t gradient_row, float* product) {
  const auto& ops = tile_ops();
  auto& w = Workbench::of_thread();
  w.fit(patterns_);
  const auto row = padded(patterns_.chunk_size());
  const auto stacked = 2 * count_;  // rows of an association: P, then dS
  const auto all = stacked * static_cast<int64_t>(associations_.size());
  w.all_scores.resize(all * row);
  w.all_rows.resize(all * padded_stored_);
  for (const auto& a : associations_) {
    float* to = w.all_rows.data() + a.step * stacked * padded_stored_;
    std::copy_n(a.incoming.data(), count_ * padded_stored_, to);
    std::copy_n(a.scaled.data(), count_ * padded_stored_, to + count_ * padded_stored_);
  }
  const auto& set = patterns_.sets()[set_];
  const auto end = patterns_.chunks_end(set, block);
  for (auto number = patterns_.chunks_begin(block); number < end; ++number) {
    const auto chunk = take_chunk(number);
    for (const auto& a : associations_) {
      float* weights = w.all_scores.data() + a.step * stacked * row;
      associate(a, chunk, weights, weights + count_ * row);
    }
    float* target = gradient + chunk.first * gradient_row;
    ops.gemm({chunk.count, p_.stored_width(), all, w.all_scores.data(), 1, row, w.all_rows.data(), padded_stored_,
              ops.panel, target, gradient_row, false});
    if (p_.map.normalize) {
      ops.normalize_gradient(chunk.keys, chunk.count, p_.stored_width(), patterns_.moments(set, chunk.first), target,
                             gradient_row);
    }
    ops.gemm({count_, p_.stored_width(), chunk.count, w.all_scores.data() + count_ * row, row, 1, chunk.keys,
              chunk.key_row, ops.panel, product, padded_stored_, number != patterns_.chunks_begin(block)});
  }
}

void BackwardTile::add_product(const float* product) {
  for (int64_t i = 0; i < count_ * padded_stored_; ++i) total_.data()[i] += product[i];
}

void BackwardTile::finish_step() {
  const auto& ops = tile_ops();
  const float* products = total_.data();
  if (p_.is_pool()) {
    for (int64_t i = 0; i < count_; ++i) {
      float* to = g_.products + (step_ * p_.rows() + rows_[i].index) * p_.stored_width();
      const float* product = total_.data() + i * padded_stored_;
      for (int64_t k = 0; k < p_.stored_width(); ++k) to[k] = is_last() || passes(i, step_) ? product[k] : 0.0f;
    }
    to_states(p_, rows_, count_, total_.data(), mapped_.data());
    products = mapped_.data();
  }
  for (int64_t i = 0; i < count_; ++i) {
    if (!is_last() && !passes(i, step_)) continue;
    const float* product = products + i * padded_depth_;
    beta_gradient_[i] += ops.inner(state_.data() + i * padded_depth_, product, padded_depth_);
    // The gradient that came in for the state after this update has been used up.
    ops.combine(carried_.data() + i * padded_depth_, is_last() ? 1.0f : 0.0f, product, beta_[i], padded_depth_);
  }
}

void BackwardTile::finish() const {
  for (int64_t i = 0; i < count_; ++i) {
    g_.beta[rows_[i].index] = beta_gradient_[i];
    // The state before the last updates counts as a constant.
    float* carried = carried_.data() + i * padded_depth_;
    if (steps(i) >= g_.last_steps) std::fill_n(carried, padded_depth_, 0.0f);
  }
  store_rows(carried_.data(), g_.query, p_.type, rows_, count_, p_.depth);
}

void BackwardTile::take_carried(float* incoming) {
  float* taken = p_.is_pool() ? mapped_.data() : incoming;
  for (int64_t i = 0; i < count_; ++i) {
    float* to = taken + i * padded_depth_;
    if (passes(i, step_)) {
      std::copy_n(carried_.data() + i * padded_depth_, padded_depth_, to);
    } else {
      std::fill_n(to, padded_depth_, 0.0f);
    }
    if (p_.is_pool()) {
      std::copy_n(to, p_.depth, g_.states + (step_ * p_.rows() + rows_[i].index) * p_.depth);
    }
  }
  if (p_.is_pool()) to_instances(p_, rows_, count_, taken, incoming);
}

Chunk BackwardTile::take_chunk(int64_t number) const {
  return patterns_.is_one_chunk(patterns_.sets()[set_])
             ? kept_
             : patterns_.chunk(set_, number, Workbench::of_thread().chunk.data());
}

void BackwardTile::associate(const Association& a, const Chunk& chunk, float* weights, float* gradients) const {
  const auto& ops = tile_ops();
  auto& w = Workbench::of_thread();
  const auto row = padded(patterns_.chunk_size());
  const bool last = a.step == p_.most_steps;
  products(a.scaled.data(), padded_stored_, chunk, false, chunk.next, weights, row);
  hide_behind_queries(p_, rows_, count_, chunk.first, chunk.count, weights, row);
  if (p_.has_mask()) load_score_mask(p_.mask, rows_, count_, chunk.first, chunk.count, w.mask.data(), row);
  ops.association({weights, row, count_, chunk.count, chunk.key_bias, p_.has_mask() ? w.mask.data() : nullptr, row},
                  a.largest, a.sum);
  products(a.incoming.data(), a.incoming_row, chunk, last, nullptr, gradients, row);
  const bool dropping = last && p_.dropout > 0;
  if (dropping) {
    for (int64_t i = 0; i < count_ && g_.mass != nullptr; ++i) {
      const auto more = g_.mass[rows_[i].index];
      for (int64_t j = 0; j < chunk.count; ++j) gradients[i * row + j] += more;
    }
    apply_dropout(p_, rows_, count_, chunk.first, chunk.count, gradients, row);
  }
  const bool whole = patterns_.is_one_chunk(patterns_.sets()[set_]);
  ops.softmax_gradient(weights, gradients, row, count_, chunk.count, whole ? nullptr : a.mean, a.extra);
  if (dropping) apply_dropout(p_, rows_, count_, chunk.first, chunk.count, weights, row);
}

void BackwardTile::load_state(int64_t i, int64_t step, float* target) const {
  tile_ops().load(static_cast<const float*>(g_.saved.states) + ((step - 1) * p_.rows() + rows_[i].index) * p_.depth,
                  ElementType::float32, 0, 1, p_.depth, target);
}

float BackwardTile::product(const float* x, const float* y, int64_t width) const {
  return patterns_.is_packed(patterns_.sets()[set_]) ? tile_ops().inner_in_order(x, y, width)
                                                     : tile_ops().inner(x, y, padded(width));
}

void BackwardTile::products(const float* x, int64_t x_row, const Chunk& chunk, bool with_values, const float* next,
                            float* target, int64_t target_row) const {
  const auto& ops = tile_ops();
  const auto width = with_values ? p_.width : p_.stored_width();
  const auto* transposed = with_values ? chunk.values_transposed : chunk.keys_transposed;
  if (transposed != nullptr) {
    ops.gemm({count_, chunk.count, width, x, x_row, 1, transposed, chunk.panel_row, width * chunk.panel_row, target,
              target_row, false});
  } else {
    ops.dot(x, x_row, count_, with_values ? chunk.values : chunk.keys, with_values ? chunk.value_row : chunk.key_row,
            chunk.count, width, target, target_row, next, chunk.next_row);
  }
}

void BackwardTile::clear_product() { std::fill_n(total_.data(), kTileRows * padded_stored_, 0.0f); }

}  // namespace hopfield::kernels
