#include "kernels/cpu/retrieve_tiles.h"

#include "kernels/philox.h"

#include <algorithm>
#include <limits>

namespace hopfield::kernels {

PackedPatterns::PackedPatterns(const Call& call, bool backward, const Parallel& parallel)
    : call_(call), backward_(backward) {
  const auto& p = call;
  chunk_ = chunk_rows(std::max(p.stored_width(), p.width));
  padded_stored_ = padded(p.stored_width());
  padded_width_ = padded(p.width);
  const auto steps = p.heads > 0 ? *std::max_element(p.steps_max, p.steps_max + p.heads) : 0;
  const auto worth = [&](int64_t rows) {
    return p.is_pool() ? std::numeric_limits<int64_t>::max() : std::max<int64_t>(rows / (steps + 1), 4);
  };
  packed_rows_ = worth(kRowsWorthPacking);
  few_packed_rows_ = worth(kRowsWorthPackingFew);
  const auto batches = p.shares_batch() ? std::min<int64_t>(p.batch, 1) : p.batch;
  const auto heads = p.shares_heads() ? std::min<int64_t>(p.heads, 1) : p.heads;
  const auto sharing = (p.shares_batch() ? p.batch : 1) * (p.shares_heads() ? p.heads : 1);
  for (int64_t n = 0; n < batches; ++n) {
    const auto first = p.is_ragged() ? p.offsets[n] : 0;
    const auto keys = p.is_ragged() ? p.offsets[n + 1] - first : p.keys;
    const auto queries = p.has_ragged_queries() ? p.state_offsets[n + 1] - p.state_offsets[n] : p.queries;
    for (int64_t h = 0; h < heads; ++h) sets_.push_back({n, h, first, keys, queries, sharing * queries});
  }

  // Memory for the packed sets, then the packing, in pieces that are whole panels.
  struct Piece {
    int64_t set, first, count;
  };
  std::vector<Piece> pieces;
  int64_t size = 0;
  const auto reserve = [&](int64_t floats) {
    const auto place = size;
    size += padded(floats);
    return place;
  };
  packed_.resize(sets_.size());
  for (size_t i = 0; i < sets_.size(); ++i) {
    const auto& set = sets_[i];
    if (!is_packed_before(set)) continue;
    const auto row = panel_row(set);
    const auto panels = (set.keys + row - 1) / row * row;
    packed_[i].keys = reserve(set.keys * padded_stored_);
    packed_[i].keys_transposed = reserve(panels * p.stored_width());
    if (call_.has_values()) {
      packed_[i].values = reserve(set.keys * padded_width_);
      if (backward_) packed_[i].values_transposed = reserve(panels * p.width);
    }
    for (int64_t first = 0; first < set.keys; first += chunk_) {
      pieces.push_back({static_cast<int64_t>(i), first, std::min(chunk_, set.keys - first)});
    }
  }
  if (p.map.normalize) find_moments(parallel);
  if (pieces.empty()) return;
  memory_.resize(size);
  parallel(static_cast<int64_t>(pieces.size()),
           [&](int64_t i) { pack(pieces[i].set, pieces[i].first, pieces[i].count); });
}

void PackedPatterns::find_rows(const PatternSet& set, int64_t first, int64_t count, Row* rows) const {
  const auto queries = set.queries, heads = call_.shares_heads() ? call_.heads : 1;
  if (count <= 0) return;
  // Rows follow each other, so that only the first one takes divisions.
  Row row{};
  row.query = first % queries;
  row.head = set.head + first / queries % heads;
  row.batch = set.batch + first / (queries * heads);
  for (int64_t i = 0; i < count; ++i) {
    if (call_.has_ragged_queries()) {
      row.place = call_.state_offsets[row.batch] + row.query;
      row.index = row.place * call_.heads + row.head;
    } else {
      row.place = row.query;
      row.index = (row.batch * call_.heads + row.head) * queries + row.query;
    }
    rows[i] = row;
    if (++row.query < queries) continue;
    row.query = 0;
    if (++row.head < set.head + heads) continue;
    row.head = set.head;
    ++row.batch;
  }
}

int64_t PackedPatterns::blocks(const PatternSet& set) const {
  const auto rows = chunk_ * kChunksInBlock;
  return (set.keys + rows - 1) / rows;
}

int64_t PackedPatterns::chunks_end(const PatternSet& set, int64_t block) const {
  return std::min((set.keys + chunk_ - 1) / chunk_, (block + 1) * kChunksInBlock);
}

std::vector<TileNumber> PackedPatterns::tiles() const {
  std::vector<TileNumber> all;
  for (size_t i = 0; i < sets_.size(); ++i) {
    const auto step = tile_rows(sets_[i]);
    for (int64_t row = 0; row < sets_[i].rows; row += step) all.push_back({static_cast<int64_t>(i), row});
  }
  return all;
}

bool PackedPatterns::threads_share_tiles(const std::vector<TileNumber>& tiles) const {
  constexpr size_t kFewTiles = 16;
  const auto has_blocks = [this](const PatternSet& set) { return blocks(set) > 1; };
  return tiles.size() < kFewTiles && std::any_of(sets_.begin(), sets_.end(), has_blocks);
}

void PackedPatterns::find_moments(const Parallel& parallel) {
  const auto& p = call_;
  const auto total = p.is_ragged() ? p.offsets[p.batch] : (p.shares_batch() ? 1 : p.batch) * p.keys;
  moments_.resize(2 * total);
  std::fill_n(moments_.data(), 2 * total, 0.0f);
  struct Piece {
    int64_t set, first, count;
  };
  std::vector<Piece> pieces;
  for (size_t i = 0; i < sets_.size(); ++i) {
    if (sets_[i].rows <= kTileRows) continue;  // chunk() finds them, in the cache
    for (int64_t first = 0; first < sets_[i].keys; first += chunk_) {
      pieces.push_back({static_cast<int64_t>(i), first, std::min(chunk_, sets_[i].keys - first)});
    }
  }
  parallel(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const auto& piece = pieces[i];
    const auto& set = sets_[piece.set];
    const auto* source = address(p.stored, p.type, set.batch, set.head, set.first + piece.first);
    float* target = moments_.data() + 2 * (moments_row(set) + piece.first);
    if (in_place(p.stored_width())) {
      tile_ops().moments(reinterpret_cast<const float*>(source), p.stored.row, piece.count, p.stored_width(),
                         p.map.normalize_eps, target);
      return;
    }
    const Buffer rows(piece.count * padded_stored_);
    tile_ops().load(source, p.type, p.stored.row, piece.count, p.stored_width(), rows.data());
    tile_ops().moments(rows.data(), padded_stored_, piece.count, p.stored_width(), p.map.normalize_eps, target);
  });
}

void PackedPatterns::pack(int64_t set, int64_t first, int64_t count) {
  const auto& ops = tile_ops();
  const auto& s = sets_[set];
  const auto pack_one = [&](const Strided& patterns, int64_t width, int64_t rows_at, int64_t transposed_at,
                            bool transposed) {
    const auto padded_width = padded(width);
    float* rows = memory_.data() + rows_at + first * padded_width;
    ops.load(address(patterns, call_.type, s.batch, s.head, s.first + first), call_.type, patterns.row, count, width,
             rows);
    if (transposed) {
      ops.pack_transposed(rows, padded_width, count, width, memory_.data() + transposed_at + first * width,
                          panel_row(s));
    }
  };
  pack_one(call_.stored, call_.stored_width(), packed_[set].keys, packed_[set].keys_transposed, true);
  if (call_.has_values()) {
    pack_one(call_.values, call_.width, packed_[set].values, packed_[set].values_transposed, backward_);
  }
}

Chunk PackedPatterns::chunk(int64_t set, int64_t number, float* scratch) const {
  const auto& ops = tile_ops();
  const auto& s = sets_[set];
  Chunk c{};
  c.first = number * chunk_;
  c.count = std::min(chunk_, s.keys - c.first);
  if (call_.key_bias != nullptr) {
    const auto* bias = call_.key_bias + (call_.is_ragged() ? s.first : s.batch * call_.key_bias_batch) + c.first;
    // Whole vectors are loaded, and nobody promises memory behind the last key.
    c.key_bias = c.count % kPadding == 0 ? bias : std::copy_n(bias, c.count, scratch) - c.count;
    scratch += chunk_;
  }
  c.panel_row = panel_row(s);
  if (is_packed_before(s)) {
    const auto& at = packed_[set];
    c.keys = memory_.data() + at.keys + c.first * padded_stored_;
    c.key_row = padded_stored_;
    c.keys_transposed = memory_.data() + at.keys_transposed + c.first * call_.stored_width();
    if (call_.has_values()) {
      c.values = memory_.data() + at.values + c.first * padded_width_;
      c.value_row = padded_width_;
      c.values_transposed = backward_ ? memory_.data() + at.values_transposed + c.first * call_.width : nullptr;
    }
  } else {
    const auto take = [&](int64_t floats) {
      float* memory = scratch;
      scratch += chunk_ * floats;
      return memory;
    };
    const auto transposed = [&](const float* rows, int64_t row, int64_t width) {
      float* panels = take(padded(width));
      ops.pack_transposed(rows, row, c.count, width, panels, c.panel_row);
      return const_cast<const float*>(panels);
    };
    c.keys = rows(call_.stored, s, c, call_.stored_width(), take(padded_stored_), c.key_row);
    if (!is_packed(s) && call_.type == ElementType::float32 && c.first + c.count < s.keys) {
      const auto* next = address(call_.stored, call_.type, s.batch, s.head, s.first + c.first + c.count);
      c.next = reinterpret_cast<const float*>(next);
      c.next_row = call_.stored.row;
    }
    if (is_packed(s)) c.keys_transposed = transposed(c.keys, c.key_row, call_.stored_width());
    if (call_.has_values()) {
      c.values = rows(call_.values, s, c, call_.width, take(padded_width_), c.value_row);
      if (is_packed(s) && backward_) c.values_transposed = transposed(c.values, c.value_row, call_.width);
    }
  }
  if (!call_.has_values()) {
    c.values = c.keys;
    c.value_row = c.key_row;
    c.values_transposed = c.keys_transposed;
  }
  return c;
}

const float* PackedPatterns::rows(const Strided& patterns, const PatternSet& set, const Chunk& chunk, int64_t width,
                                  float* copy, int64_t& row) const {
  const auto& ops = tile_ops();
  const auto* source = address(patterns, call_.type, set.batch, set.head, set.first + chunk.first);
  const auto* lying = reinterpret_cast<const float*>(source);
  row = patterns.row;
  if (!in_place(width)) {
    ops.load(source, call_.type, patterns.row, chunk.count, width, copy);
    row = padded(width);
    lying = copy;
  }
  if (!call_.map.normalize) return lying;
  float* found = moments_.data() + 2 * (moments_row(set) + chunk.first);
  // A scale is not 0. The set's only tile is here for the first time, and nobody else is.
  if (found[1] == 0.0f) ops.moments(lying, row, chunk.count, width, call_.map.normalize_eps, found);
  ops.normalize(lying, row, chunk.count, width, moments(set, chunk.first), copy);
  row = padded(width);
  return copy;
}

PackedPatterns::FloatRows PackedPatterns::float_rows(int64_t set, bool values) const {
  const auto& s = sets_[set];
  values = values && call_.has_values();
  const auto width = values ? call_.width : call_.depth;
  if (is_packed_before(s)) {
    return {memory_.data() + (values ? packed_[set].values : packed_[set].keys), padded(width)};
  }
  if (!in_place(width)) return {nullptr, 0};
  const auto& patterns = values ? call_.values : call_.stored;
  return {reinterpret_cast<const float*>(address(patterns, call_.type, s.batch, s.head, s.first)), patterns.row};
}

void PackedPatterns::load_pattern(int64_t set, int64_t key, bool value, float* target) const {
  const auto& s = sets_[set];
  value = value && call_.has_values();
  const auto& patterns = value ? call_.values : call_.stored;
  tile_ops().load(address(patterns, call_.type, s.batch, s.head, s.first + key), call_.type, patterns.row, 1,
                  value ? call_.width : call_.depth, target);
}

void key_products(const Call& call, const Chunk& chunk, const float* x, int64_t row_count, float* target,
                  int64_t target_row) {
  const auto& ops = tile_ops();
  const auto width = call.stored_width();
  if (chunk.keys_transposed != nullptr) {
    ops.gemm({row_count, chunk.count, width, x, padded(width), 1, chunk.keys_transposed, chunk.panel_row,
              width * chunk.panel_row, target, target_row, false});
  } else {
    ops.dot(x, padded(width), row_count, chunk.keys, chunk.key_row, chunk.count, width, target, target_row, chunk.next,
            chunk.next_row);
  }
}

int64_t visible_keys(const Call& call, const PatternSet& set, const Row* rows, int64_t row_count) {
  if (!call.is_causal) return set.keys;
  int64_t most = 0;
  for (int64_t i = 0; i < row_count; ++i) most = std::max(most, call.visible(rows[i].query, set.keys));
  return most;
}

void hide_behind_queries(const Call& call, const Row* rows, int64_t row_count, int64_t first, int64_t count,
                         float* scores, int64_t score_row) {
  if (!call.is_causal) return;
  for (int64_t i = 0; i < row_count; ++i) {
    const auto seen = std::clamp<int64_t>(rows[i].query + 1 - first, 0, count);
    if (seen < count) {
      std::fill(scores + i * score_row + seen, scores + i * score_row + padded(count),
                -std::numeric_limits<float>::infinity());
    }
  }
}

void load_score_mask(const ScoreMask& mask, const Row* rows, int64_t row_count, int64_t first, int64_t count,
                     float* target, int64_t target_row) {
  for (int64_t i = 0; i < row_count; ++i) {
    float* out = target + i * target_row;
    const auto at =
        rows[i].batch * mask.batch + rows[i].head * mask.head + rows[i].query * mask.query + first * mask.key;
    if (mask.kind == ScoreMask::Kind::boolean) {
      const auto* in = static_cast<const bool*>(mask.data) + at;
      for (int64_t j = 0; j < count; ++j) out[j] = in[j * mask.key] ? -std::numeric_limits<float>::infinity() : 0.0f;
    } else {
      const auto* in = static_cast<const float*>(mask.data) + at;
      for (int64_t j = 0; j < count; ++j) out[j] = in[j * mask.key];
    }
  }
}

void apply_dropout(const Call& call, const Row* rows, int64_t row_count, int64_t first, int64_t count, float* weights,
                   int64_t weight_row) {
  const bool none = call.dropout >= 1.0;
  const auto threshold = none ? 0 : dropout_threshold(call.dropout);
  const auto kept = none ? 0.0f : static_cast<float>(1.0 / (1.0 - call.dropout));
  for (int64_t i = 0; i < row_count; ++i) {
    float* row = weights + i * weight_row;
    for (int64_t j = 0; j < count; j += 4) {  // chunks begin at multiples of 4
      const auto words =
          dropout_words(call.seed, static_cast<uint32_t>(rows[i].batch), static_cast<uint32_t>(rows[i].head),
                        static_cast<uint32_t>(rows[i].query), static_cast<uint32_t>((first + j) / 4));
      for (int64_t k = 0; k < 4 && j + k < count; ++k) row[j + k] *= words[k] >= threshold ? kept : 0.0f;
    }
  }
}

float dropout_factor(const Call& call, const Row& row, int64_t key) {
  if (call.dropout >= 1.0) return 0.0f;
  const auto words = dropout_words(call.seed, static_cast<uint32_t>(row.batch), static_cast<uint32_t>(row.head),
                                   static_cast<uint32_t>(row.query), static_cast<uint32_t>(key / 4));
  return words[key % 4] >= dropout_threshold(call.dropout) ? static_cast<float>(1.0 / (1.0 - call.dropout)) : 0.0f;
}

namespace {

/// Calls `run(head, first, count)` for neighbouring rows of one head.
template <typename Run>
void for_each_head(const Row* rows, int64_t row_count, const Run& run) {
  for (int64_t begin = 0, end = 0; begin < row_count; begin = end) {
    while (end < row_count && rows[end].head == rows[begin].head) ++end;
    run(rows[begin].head, begin, end - begin);
  }
}

/// Calls `run(first, count)` for rows that follow each other in a tensor.
template <typename Run>
void for_each_run(const Row* rows, int64_t row_count, const Run& run) {
  for (int64_t begin = 0, end = 0; begin < row_count; begin = end) {
    ++end;
    const auto& first = rows[begin];
    const auto follows = [&](const Row& row) {
      return row.batch == first.batch && row.head == first.head && row.query == first.query + (end - begin);
    };
    while (end < row_count && follows(rows[end])) ++end;
    run(begin, end - begin);
  }
}

}  // namespace

void load_rows(const Strided& tensor, ElementType type, const Row* rows, int64_t row_count, int64_t width,
               float* target) {
  for_each_run(rows, row_count, [&](int64_t first, int64_t count) {
    const auto& row = rows[first];
    tile_ops().load(address(tensor, type, row.batch, row.head, row.place), type, tensor.row, count, width,
                    target + first * padded(width));
  });
}

void store_rows(const float* source, const Strided& tensor, ElementType type, const Row* rows, int64_t row_count,
                int64_t width) {
  for_each_run(rows, row_count, [&](int64_t first, int64_t count) {
    const auto& row = rows[first];
    tile_ops().store(source + first * padded(width), padded(width), count, width,
                     address(tensor, type, row.batch, row.head, row.place), type, tensor.row);
  });
}

void to_instances(const Call& call, const Row* rows, int64_t row_count, const float* x, float* target) {
  const auto depth = call.depth, padded_depth = padded(depth), padded_width = padded(call.stored_width());
  for_each_head(rows, row_count, [&](int64_t head, int64_t first, int64_t count) {
    tile_ops().gemm({count, call.stored_width(), depth, x + first * padded_depth, padded_depth, 1,
                     call.map.weight + head * depth * padded_width, padded_width, tile_ops().panel,
                     target + first * padded_width, padded_width, false});
  });
}

void to_states(const Call& call, const Row* rows, int64_t row_count, const float* x, float* target) {
  const auto depth = call.depth, padded_depth = padded(depth), padded_width = padded(call.stored_width());
  for_each_head(rows, row_count, [&](int64_t head, int64_t first, int64_t count) {
    tile_ops().gemm({count, depth, call.stored_width(), x + first * padded_width, padded_width, 1,
                     call.map.transposed + head * call.stored_width() * padded_depth, padded_depth, tile_ops().panel,
                     target + first * padded_depth, padded_depth, false});
  });
}

Workbench& Workbench::of_thread() {
  thread_local Workbench workbench;
  return workbench;
}

void Workbench::fit(const PackedPatterns& patterns) {
  for (auto* buffer : {&scores, &gradients, &mask}) buffer->resize(kMostTileRows * padded(patterns.chunk_size()));
  chunk.resize(patterns.scratch_size());
}

}  // namespace hopfield::kernels
