#include "kernels/cpu/sparse_association.h"

#include <algorithm>
#include <cmath>

namespace hopfield::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
/// Where threads share a tile, each takes that many chunks at a time.
constexpr int64_t kChunksInPart = 4;
/// Patterns that are summed before their sum is added to those before, which bounds rounding errors.
constexpr int64_t kPatternsInSum = 32;

}  // namespace

void Candidates::begin(float largest, int64_t keys) {
  largest_ = largest;
  count_ = 0;
  all_keys_ = keys;
}

float Candidates::above(double distance) const {
  // The scores are float32, and so is this bound: it may be low by some roundings, but never high.
  const double largest = largest_;
  return static_cast<float>(largest - distance - (std::abs(largest) + distance) * 0x1p-22);
}

void Candidates::add(const float* scores, int64_t count, float chunk_largest, int64_t first, double margin) {
  if (std::isnan(chunk_largest)) largest_ = kNaN;
  if (chunk_largest > largest_) largest_ = chunk_largest;
  if (!std::isfinite(largest_)) return;
  const auto bound = above(margin);
  if (!(chunk_largest > bound)) return;
  make_room(count, bound);
  count_ += tile_ops().select_scores(scores, count, bound, static_cast<uint32_t>(first), scores_.data() + count_,
                                     keys_.data() + count_);
}

void Candidates::append(const Candidates& more) {
  if (std::isnan(more.largest_)) largest_ = kNaN;
  if (more.largest_ > largest_) largest_ = more.largest_;
  reserve(count_ + more.count_);
  std::copy_n(more.scores_.data(), more.count_, scores_.data() + count_);
  std::copy_n(more.keys_.data(), more.count_, keys_.data() + count_);
  count_ += more.count_;
}

void Candidates::keep_within(double distance) {
  count_ = tile_ops().keep_scores(scores_.data(), keys_.data(), count_, above(distance));
}

void Candidates::fill(float score) {
  reserve(all_keys_);
  count_ = all_keys_;
  for (int64_t k = 0; k < count_; ++k) {
    scores_[static_cast<size_t>(k)] = score;
    keys_[static_cast<size_t>(k)] = static_cast<uint32_t>(k);
  }
}

void Candidates::make_room(int64_t count, float above) {
  const auto room = static_cast<int64_t>(scores_.size()) - kPadding;
  if (count_ + count <= room) return;
  count_ = tile_ops().keep_scores(scores_.data(), keys_.data(), count_, above);
  // Where half of the list is free now, the time for this is paid for by what has been added since the last time.
  if (count_ + count > room / 2) reserve(std::min(all_keys_, 2 * (count_ + count)));
}

void Candidates::reserve(int64_t entries) {
  const auto size = static_cast<size_t>(entries + kPadding);
  if (scores_.size() >= size) return;
  scores_.resize(size);
  keys_.resize(size);
}

void SparseAssociation::begin(int64_t set, const Row* rows, int64_t count) {
  set_ = set;
  rows_ = rows;
  count_ = count;
  visible_ = visible_keys(p_, patterns_.sets()[set], rows, count);
  if (patterns_.is_one_chunk(patterns_.sets()[set])) {
    kept_memory_.resize(patterns_.scratch_size());
    kept_ = patterns_.chunk(set, 0, kept_memory_.data());
  }
  std::fill_n(wanted_, kTileRows, true);
  std::fill_n(is_known_, kTileRows, false);
}

void SparseAssociation::know(int64_t i, float largest, float c) {
  is_known_[i] = true;
  largest_[i] = largest;
  c_[i] = c;
}

void SparseAssociation::collect(const float* scaled, bool last, const Outputs* scores_to, bool shared,
                                const Parallel& parallel) {
  const auto& set = patterns_.sets()[set_];
  const auto chunks = (set.keys + patterns_.chunk_size() - 1) / patterns_.chunk_size();
  const auto in_part = shared ? kChunksInPart : std::max<int64_t>(chunks, 1);
  parts_used_ = std::max<int64_t>((chunks + in_part - 1) / in_part, 1);
  while (static_cast<int64_t>(parts_.size()) < parts_used_) parts_.push_back(std::make_unique<Part>());
  const auto take = [&](int64_t number) {
    auto& part = *parts_[static_cast<size_t>(number)];
    for (int64_t i = 0; i < count_; ++i) part.rows[i].begin(is_known_[i] ? largest_[i] : -kInfinity, set.keys);
    part.zeros.assign(static_cast<size_t>(padded(last ? p_.width : p_.depth)), 0.0f);
    collect_chunks(scaled, last, scores_to, number * in_part, std::min(chunks, (number + 1) * in_part), part);
  };
  if (parts_used_ == 1) {
    take(0);
  } else {
    parallel(parts_used_, take);
  }
  has_nonfinite_ = false;
  for (int64_t part = 0; part < parts_used_; ++part) {
    const auto& zeros = parts_[static_cast<size_t>(part)]->zeros;
    has_nonfinite_ |= std::any_of(zeros.begin(), zeros.end(), [](float zero) { return std::isnan(zero); });
  }
}

void SparseAssociation::collect_chunks(const float* scaled, bool last, const Outputs* scores_to, int64_t begin,
                                       int64_t end, Part& part) {
  const auto& ops = tile_ops();
  auto& w = Workbench::of_thread();
  w.fit(patterns_);
  const auto& set = patterns_.sets()[set_];
  const auto keys_row = padded(patterns_.chunk_size());
  float chunk_largest[kTileRows];
  for (auto number = begin; number < end; ++number) {
    const auto first = number * patterns_.chunk_size();
    if (first >= visible_) {
      if (scores_to != nullptr) write_scores(*scores_to, hidden_chunk(first), nullptr, keys_row);
      continue;
    }
    auto chunk = patterns_.is_one_chunk(set) ? kept_ : patterns_.chunk(set_, number, w.chunk.data());
    chunk.count = std::min(chunk.count, visible_ - first);
    key_products(p_, chunk, scaled, count_, w.scores.data(), keys_row);
    hide_behind_queries(p_, rows_, count_, chunk.first, chunk.count, w.scores.data(), keys_row);
    if (p_.has_mask()) load_score_mask(p_.mask, rows_, count_, chunk.first, chunk.count, w.mask.data(), keys_row);
    ops.biased_scores({w.scores.data(), keys_row, count_, chunk.count, chunk.key_bias,
                       p_.has_mask() ? w.mask.data() : nullptr, keys_row},
                      chunk_largest);
    if (scores_to != nullptr) write_scores(*scores_to, chunk, w.scores.data(), keys_row);
    for (int64_t i = 0; i < count_; ++i) {
      if (!wanted_[i]) continue;
      const auto margin = (is_known_[i] ? c_[i] * (1 + 1e-5) : 1.0) / (p_.alpha - 1);
      part.rows[i].add(w.scores.data() + i * keys_row, chunk.count, chunk_largest[i], chunk.first, margin);
    }
    if (checks_) {
      ops.add_zero_times(last ? chunk.values : chunk.keys, last ? chunk.value_row : chunk.key_row, chunk.count,
                         padded(last ? p_.width : p_.depth), part.zeros.data());
    }
  }
}

void SparseAssociation::write_scores(const Outputs& out, const Chunk& chunk, const float* scores,
                                     int64_t score_row) const {
  const auto first = patterns_.sets()[set_].first + chunk.first;
  for (int64_t i = 0; i < count_; ++i) {
    const auto& row = rows_[i];
    float* to = out.scores + row.batch * out.score_batch + row.head * out.score_head + row.query * out.score_query +
                first * out.score_key;
    for (int64_t j = 0; j < chunk.count; ++j) to[j * out.score_key] = scores[i * score_row + j];
    const auto all = std::min(patterns_.chunk_size(), patterns_.sets()[set_].keys - chunk.first);
    for (int64_t j = chunk.count; j < all; ++j) to[j * out.score_key] = -kInfinity;
  }
}

void SparseAssociation::solve(int64_t i) {
  auto& row = list(i);
  for (int64_t part = 1; part < parts_used_; ++part) row.append(parts_[static_cast<size_t>(part)]->rows[i]);
  if (!std::isfinite(row.largest())) {
    row.begin(row.largest(), patterns_.sets()[set_].keys);
    c_[i] = 0.0f;
    conjugate_[i] = row.largest();
    return;
  }
  const auto c = root(row, is_known_[i] ? static_cast<double>(c_[i]) : 1.0, is_known_[i]);
  const auto alpha = p_.alpha;
  const auto sums = tile_ops().sparse_weights(row.scores(), row.count(), row.largest(), alpha, c);
  row.keep_positive();
  c_[i] = static_cast<float>(c);
  // With y_i^(alpha - 1) = c + z_i and c = R^(1 - alpha), the conjugate needs no sum of powers.
  const auto concentration = std::expm1((1 - alpha) * std::log(sums.sum)) / (1 - alpha);
  conjugate_[i] = static_cast<float>(static_cast<double>(row.largest()) + (sums.mean + concentration) / alpha);
}

double SparseAssociation::root(Candidates& list, double c, bool is_near) const {
  const auto& ops = tile_ops();
  const auto alpha = p_.alpha;
  constexpr int64_t kFew = 64;
  constexpr int kMostSteps = 200;
  // A step leaves about the square of its length, where the powers are smooth enough: 1e-10 is far below one bit of
  // float32. Others cost little, and sparsemax ends with a step of no length.
  const double tolerance = alpha < 1.5 ? 1e-5 : 1e-9;
  // Powers that take a logarithm are found in float32 until the steps are small.
  bool rough = alpha != 2 && alpha != 1.5 && !is_near;
  list.keep_within(c * (1 + 1e-5) / (alpha - 1));
  for (int step = 0; step < kMostSteps; ++step) {
    const auto sums =
        (rough ? ops.rough_power_sums : ops.power_sums)(list.scores(), list.count(), list.largest(), alpha, c);
    const auto next = std::min(c - (c * sums.sum - std::pow(sums.sum, 2 - alpha)) / sums.slope, 1.0);
    if (rough) {
      rough = next > 0 && next < 0.99 * c;
      if (!(next > 0)) continue;
    } else if (std::abs(next - c) <= tolerance * c) {
      return next;
    }
    c = next;
    if (list.count() > kFew) list.keep_within(c * (rough ? 1.01 : 1 + 1e-5) / (alpha - 1));
  }
  return c;
}

void SparseAssociation::drop(int64_t i) {
  auto& row = list(i);
  for (int64_t j = 0; j < row.count(); ++j) row.scores()[j] *= dropout_factor(p_, rows_[i], row.keys()[j]);
}

void SparseAssociation::fill_with_nan(int64_t i) { list(i).fill(kNaN); }

template <typename Run>
void SparseAssociation::for_patterns(int64_t i, bool values, const Run& run) const {
  const auto width = padded(values ? p_.width : p_.depth);
  const auto lying = patterns_.float_rows(set_, values);
  auto& copies = Workbench::of_thread().values;
  copies.resize(kPatternsInSum * width);
  const float* rows[kPatternsInSum];
  const auto& row = list(i);
  const auto* keys = row.keys();
  for (int64_t first = 0; first < row.count(); first += kPatternsInSum) {
    const auto count = std::min(kPatternsInSum, row.count() - first);
    for (int64_t j = 0; j < count; ++j) {
      if (lying.first != nullptr) {
        rows[j] = lying.first + keys[first + j] * lying.row;
      } else {
        patterns_.load_pattern(set_, keys[first + j], values, copies.data() + j * width);
        rows[j] = copies.data() + j * width;
      }
    }
    run(first, count, rows, width);
  }
}

void SparseAssociation::sum(int64_t i, const float* weights, bool values, float* target) const {
  std::fill_n(target, padded(values ? p_.width : p_.depth), 0.0f);
  for_patterns(i, values, [&](int64_t first, int64_t count, const float* const* rows, int64_t width) {
    tile_ops().add_weighted(weights + first, rows, count, width, target);
  });
}

void SparseAssociation::add_zero_weights(int64_t i, bool values, float* target) const {
  if (!has_nonfinite_) return;
  const auto& row = list(i);
  const auto width = padded(values ? p_.width : p_.depth);
  const auto lying = patterns_.float_rows(set_, values);
  const Buffer copy(width);
  int64_t next = 0;
  for (int64_t key = 0; key < patterns_.sets()[set_].keys; ++key) {
    if (next < row.count() && row.keys()[next] == key) {
      ++next;
      continue;
    }
    if (lying.first == nullptr) patterns_.load_pattern(set_, key, values, copy.data());
    const float* pattern = lying.first != nullptr ? lying.first + key * lying.row : copy.data();
    tile_ops().add_zero_times(pattern, width, 1, width, target);
  }
}

void SparseAssociation::products(int64_t i, const float* x, bool values, float* target) const {
  for_patterns(i, values, [&](int64_t first, int64_t count, const float* const* rows, int64_t width) {
    for (int64_t j = 0; j < count; ++j) target[first + j] = tile_ops().inner(x, rows[j], width);
  });
}

}  // namespace hopfield::kernels
