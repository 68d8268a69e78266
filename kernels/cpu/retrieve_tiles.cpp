#include "kernels/cpu/retrieve_tiles.h"

#include "kernels/philox.h"

#include <algorithm>
#include <limits>

namespace hopfield::kernels {

Stored::Stored(const RetrieveProblem& problem, bool backward, const Parallel& parallel)
    : problem_(problem), backward_(backward), own_values_(problem.own_values) {
  const auto& p = problem;
  chunk_ = chunk_rows(std::max(p.depth, p.width));
  depth_room_ = padded(p.depth);
  width_room_ = padded(p.width);
  const auto steps = p.heads > 0 ? *std::max_element(p.steps_max, p.steps_max + p.heads) : 0;
  packed_rows_ =
      p.map != nullptr ? std::numeric_limits<int64_t>::max() : std::max<int64_t>(kRowsWorthPacking / (steps + 1), 4);
  const auto batches = p.batch_shared ? std::min<int64_t>(p.batch, 1) : p.batch;
  const auto heads = p.heads_shared ? std::min<int64_t>(p.heads, 1) : p.heads;
  const auto rows = (p.batch_shared ? p.batch : 1) * (p.heads_shared ? p.heads : 1) * p.queries;
  for (int64_t n = 0; n < batches; ++n) {
    const auto first = p.offsets != nullptr ? p.offsets[n] : 0;
    const auto keys = p.offsets != nullptr ? p.offsets[n + 1] - first : p.keys;
    for (int64_t h = 0; h < heads; ++h) sets_.push_back({n, h, first, keys, rows});
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
    packed_[i].keys = reserve(set.keys * depth_room_);
    packed_[i].keys_transposed = reserve(panels * p.depth);
    if (own_values_) {
      packed_[i].values = reserve(set.keys * width_room_);
      if (backward_) packed_[i].values_transposed = reserve(panels * p.width);
    }
    for (int64_t first = 0; first < set.keys; first += chunk_) {
      pieces.push_back({static_cast<int64_t>(i), first, std::min(chunk_, set.keys - first)});
    }
  }
  if (p.normalize) find_moments(parallel);
  if (pieces.empty()) return;
  memory_.resize(size);
  parallel(static_cast<int64_t>(pieces.size()),
           [&](int64_t i) { pack(pieces[i].set, pieces[i].first, pieces[i].count); });
}

Row Stored::row(const PatternSet& set, int64_t number) const {
  const auto queries = problem_.queries, heads = problem_.heads_shared ? problem_.heads : 1;
  Row row;
  row.batch = set.batch + number / (queries * heads);
  row.head = set.head + number / queries % heads;
  row.query = number % queries;
  row.index = (row.batch * problem_.heads + row.head) * queries + row.query;
  return row;
}

int64_t Stored::blocks(const PatternSet& set) const {
  const auto rows = chunk_ * kChunksInBlock;
  return (set.keys + rows - 1) / rows;
}

int64_t Stored::chunks_end(const PatternSet& set, int64_t block) const {
  return std::min((set.keys + chunk_ - 1) / chunk_, (block + 1) * kChunksInBlock);
}

void Stored::find_moments(const Parallel& parallel) {
  const auto& p = problem_;
  const auto total = p.offsets != nullptr ? p.offsets[p.batch] : (p.batch_shared ? 1 : p.batch) * p.keys;
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
    if (in_place(p.depth)) {
      tile_ops().moments(reinterpret_cast<const float*>(source), p.stored.row, piece.count, p.depth, p.normalize_eps,
                         target);
      return;
    }
    const Buffer rows(piece.count * depth_room_);
    tile_ops().load(source, p.type, p.stored.row, piece.count, p.depth, rows.data());
    tile_ops().moments(rows.data(), depth_room_, piece.count, p.depth, p.normalize_eps, target);
  });
}

void Stored::pack(int64_t set, int64_t first, int64_t count) {
  const auto& ops = tile_ops();
  const auto& s = sets_[set];
  const auto pack_one = [&](const Tensor4& patterns, int64_t width, int64_t rows_at, int64_t transposed_at,
                            bool transposed) {
    const auto room = padded(width);
    float* rows = memory_.data() + rows_at + first * room;
    ops.load(address(patterns, problem_.type, s.batch, s.head, s.first + first), problem_.type, patterns.row, count,
             width, rows);
    if (transposed) {
      ops.pack_transposed(rows, room, count, width, memory_.data() + transposed_at + first * width, panel_row(s));
    }
  };
  pack_one(problem_.stored, problem_.depth, packed_[set].keys, packed_[set].keys_transposed, true);
  if (own_values_) {
    pack_one(problem_.values, problem_.width, packed_[set].values, packed_[set].values_transposed, backward_);
  }
}

Chunk Stored::chunk(int64_t set, int64_t number, float* scratch) const {
  const auto& ops = tile_ops();
  const auto& s = sets_[set];
  Chunk c{};
  c.first = number * chunk_;
  c.count = std::min(chunk_, s.keys - c.first);
  if (problem_.key_bias != nullptr) {
    const auto* bias =
        problem_.key_bias + (problem_.offsets != nullptr ? s.first : s.batch * problem_.key_bias_batch) + c.first;
    // Whole vectors are loaded, and nobody promises memory behind the last key.
    c.key_bias = c.count % kPadding == 0 ? bias : std::copy_n(bias, c.count, scratch) - c.count;
    scratch += chunk_;
  }
  c.panel_row = panel_row(s);
  if (is_packed_before(s)) {
    const auto& at = packed_[set];
    c.keys = memory_.data() + at.keys + c.first * depth_room_;
    c.key_row = depth_room_;
    c.keys_transposed = memory_.data() + at.keys_transposed + c.first * problem_.depth;
    if (own_values_) {
      c.values = memory_.data() + at.values + c.first * width_room_;
      c.value_row = width_room_;
      c.values_transposed = backward_ ? memory_.data() + at.values_transposed + c.first * problem_.width : nullptr;
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
    c.keys = rows(problem_.stored, s, c, problem_.depth, take(depth_room_), c.key_row);
    if (!is_packed(s) && problem_.type == Type::float32 && c.first + c.count < s.keys) {
      const auto* next = address(problem_.stored, problem_.type, s.batch, s.head, s.first + c.first + c.count);
      c.next = reinterpret_cast<const float*>(next);
      c.next_row = problem_.stored.row;
    }
    if (is_packed(s)) c.keys_transposed = transposed(c.keys, c.key_row, problem_.depth);
    if (own_values_) {
      c.values = rows(problem_.values, s, c, problem_.width, take(width_room_), c.value_row);
      if (is_packed(s) && backward_) c.values_transposed = transposed(c.values, c.value_row, problem_.width);
    }
  }
  if (!own_values_) {
    c.values = c.keys;
    c.value_row = c.key_row;
    c.values_transposed = c.keys_transposed;
  }
  return c;
}

const float* Stored::rows(const Tensor4& patterns, const PatternSet& set, const Chunk& chunk, int64_t width,
                          float* copy, int64_t& row) const {
  const auto& ops = tile_ops();
  const auto* source = address(patterns, problem_.type, set.batch, set.head, set.first + chunk.first);
  const auto* lying = reinterpret_cast<const float*>(source);
  row = patterns.row;
  if (!in_place(width)) {
    ops.load(source, problem_.type, patterns.row, chunk.count, width, copy);
    row = padded(width);
    lying = copy;
  }
  if (!problem_.normalize) return lying;
  float* found = moments_.data() + 2 * (moments_row(set) + chunk.first);
  // A scale is not 0. The set's only tile is here for the first time, and nobody else is.
  if (found[1] == 0.0f) ops.moments(lying, row, chunk.count, width, problem_.normalize_eps, found);
  ops.normalize(lying, row, chunk.count, width, moments(set, chunk.first), copy);
  row = padded(width);
  return copy;
}

void load_pair_mask(const PairMask& mask, const Row* rows, int64_t row_count, int64_t first, int64_t count,
                    float* target, int64_t target_row) {
  for (int64_t i = 0; i < row_count; ++i) {
    float* out = target + i * target_row;
    const auto at =
        rows[i].batch * mask.batch + rows[i].head * mask.head + rows[i].query * mask.query + first * mask.key;
    if (mask.kind == PairMask::Kind::boolean) {
      const auto* in = static_cast<const bool*>(mask.data) + at;
      for (int64_t j = 0; j < count; ++j) out[j] = in[j * mask.key] ? -std::numeric_limits<float>::infinity() : 0.0f;
    } else {
      const auto* in = static_cast<const float*>(mask.data) + at;
      for (int64_t j = 0; j < count; ++j) out[j] = in[j * mask.key];
    }
  }
}

void apply_dropout(const RetrieveProblem& problem, const Row* rows, int64_t row_count, int64_t first, int64_t count,
                   float* weights, int64_t weight_row) {
  const bool none = problem.dropout >= 1.0;
  const auto threshold = none ? 0 : dropout_threshold(problem.dropout);
  const auto kept = none ? 0.0f : static_cast<float>(1.0 / (1.0 - problem.dropout));
  for (int64_t i = 0; i < row_count; ++i) {
    float* row = weights + i * weight_row;
    for (int64_t j = 0; j < count; j += 4) {  // chunks begin at multiples of 4
      const auto words =
          dropout_words(problem.seed, static_cast<uint32_t>(rows[i].batch), static_cast<uint32_t>(rows[i].head),
                        static_cast<uint32_t>(rows[i].query), static_cast<uint32_t>((first + j) / 4));
      for (int64_t k = 0; k < 4 && j + k < count; ++k) row[j + k] *= words[k] >= threshold ? kept : 0.0f;
    }
  }
}

namespace {

/// Calls `call(head, first, count)` for neighbouring rows of one head.
template <typename Call>
void for_each_head(const Row* rows, int64_t row_count, const Call& call) {
  for (int64_t begin = 0, end = 0; begin < row_count; begin = end) {
    while (end < row_count && rows[end].head == rows[begin].head) ++end;
    call(rows[begin].head, begin, end - begin);
  }
}

}  // namespace

namespace {

/// Calls `call(first, count)` for rows that follow each other in a tensor.
template <typename Call>
void for_each_run(const Row* rows, int64_t row_count, const Call& call) {
  for (int64_t begin = 0, end = 0; begin < row_count; begin = end) {
    ++end;
    while (end < row_count && rows[end].index == rows[end - 1].index + 1 && rows[end].query > rows[begin].query) ++end;
    call(begin, end - begin);
  }
}

}  // namespace

void load_rows(const Tensor4& tensor, Type type, const Row* rows, int64_t row_count, int64_t width, float* target) {
  for_each_run(rows, row_count, [&](int64_t first, int64_t count) {
    const auto& row = rows[first];
    tile_ops().load(address(tensor, type, row.batch, row.head, row.query), type, tensor.row, count, width,
                    target + first * padded(width));
  });
}

void store_rows(const float* source, const Tensor4& tensor, Type type, const Row* rows, int64_t row_count,
                int64_t width) {
  for_each_run(rows, row_count, [&](int64_t first, int64_t count) {
    const auto& row = rows[first];
    tile_ops().store(source + first * padded(width), padded(width), count, width,
                     address(tensor, type, row.batch, row.head, row.query), type, tensor.row);
  });
}

void to_instances(const RetrieveProblem& problem, const Row* rows, int64_t row_count, const float* x, float* target) {
  const auto depth = problem.map->depth, state_room = padded(depth), room = padded(problem.depth);
  for_each_head(rows, row_count, [&](int64_t head, int64_t first, int64_t count) {
    tile_ops().gemm({count, problem.depth, depth, x + first * state_room, state_room, 1,
                     problem.map->weight + head * depth * room, room, tile_ops().panel, target + first * room, room,
                     false});
  });
}

void to_states(const RetrieveProblem& problem, const Row* rows, int64_t row_count, const float* x, float* target) {
  const auto depth = problem.map->depth, state_room = padded(depth), room = padded(problem.depth);
  for_each_head(rows, row_count, [&](int64_t head, int64_t first, int64_t count) {
    tile_ops().gemm({count, depth, problem.depth, x + first * room, room, 1,
                     problem.map->transposed + head * problem.depth * state_room, state_room, tile_ops().panel,
                     target + first * state_room, state_room, false});
  });
}

}  // namespace hopfield::kernels
