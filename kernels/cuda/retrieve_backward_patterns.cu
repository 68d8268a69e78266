#include <kernels/cuda/retrieve_backward.h>
#include <kernels/cuda/retrieve_dispatch.h>
#include <kernels/cuda/row_copy.h>

namespace hopfield::kernels::cuda {
namespace {

/// Queries times associations that one block goes through. With fewer, there would be many parts to add up; with more,
/// multiprocessors without work. The number is fixed, and counted in each set, so that the bits of a gradient depend
/// neither on the device nor on other sets.
constexpr int64_t kRowsOfPart = 8192, kMostParts = 64;

/// All associations of all queries of a set as one sequence, cut into parts for blocks.
struct Parts {
  int64_t tiles;  ///< of queries, in each association
  int64_t count, tiles_of_part;

  Parts(const RetrieveCall& call, int64_t rows, int64_t tile_rows) {
    tiles = (rows + tile_rows - 1) / tile_rows;
    const auto all = tiles * (call.most_steps + 1);
    count = pattern_gradient_form(call).parts;
    tiles_of_part = (all + count - 1) / count;
  }
};

/// What the kernel is given.
struct PatternBackward {
  RetrieveBackward b;
  Parts parts;
  int64_t tiles;  ///< of patterns, in each set; of ragged patterns in all bags together
};

/// A tile of queries of one association, in shared memory.
template <class T>
struct PassingTile {
  int64_t step;
  const T *states, *rounding_error, *incoming;  ///< without rounding errors null
  const Mark* marks;
  const QueryPlace* places;
};

/// Shared memory of a block, in bytes from its beginning. Values and rounding errors take no memory if there are none.
template <class T, int padded_width>
struct PatternShared {
  static constexpr int kRows = kPassingRows<T, padded_width>, kStages = 2;
  static constexpr int kRowBytes = kRetrievePitch<T, padded_width> * static_cast<int>(sizeof(T));
  int stored, values, stages, tensors, marks, places, stage, total;

  HOPFIELD_DEVICE constexpr PatternShared(bool own_values, bool rounding_error, int warps)
      : stored(0),
        values(stored + warps * kWarpRows<T, padded_width> * kRowBytes),
        stages(values + (own_values ? warps * kWarpRows<T, padded_width> * kRowBytes : 0)),
        tensors(rounding_error ? 3 : 2),
        marks(tensors * kRows * kRowBytes),
        places(marks + kRows * static_cast<int>(sizeof(Mark))),
        stage(places + kRows * static_cast<int>(sizeof(QueryPlace))),
        total(stages + kStages * stage) {}
};

/// The queries of a set pass through shared memory, association after association.
template <class T, int padded_width>
class QueryStream {
 public:
  using Shared = PatternShared<T, padded_width>;
  static constexpr int kRows = Shared::kRows, kPitch = kRetrievePitch<T, padded_width>;

  /// @param first  the block's first pattern. Tiles of queries are left out that see neither this one nor those behind
  HOPFIELD_DEVICE QueryStream(const PatternBackward& p, const RetrieveSet& set, const Shared& at, int64_t first,
                              int64_t begin, int64_t end)
      : p_(p), set_(set), at_(at), first_(first), end_(end), fetched_(seen_from(begin)), brought_(fetched_) {
    fetch();
  }

  HOPFIELD_DEVICE bool has_more() const { return brought_ < end_; }

  /// Waits for the next tile. Called by all threads of the block when they have read the tile before.
  HOPFIELD_DEVICE PassingTile<T> bring() {
    wait_copies<0>();
    sync_threads();
    const auto next = fetched_;
    fetch();
    const int at = stage(brings_++);
    PassingTile<T> tile;
    tile.step = brought_ / p_.parts.tiles;
    tile.states = shared_memory<T>(at);
    tile.incoming = tile.states + kRows * kPitch;
    tile.rounding_error = at_.tensors == 3 && tile.step > 0 ? tile.incoming + kRows * kPitch : nullptr;
    tile.marks = shared_memory<Mark>(at + at_.marks);
    tile.places = shared_memory<QueryPlace>(at + at_.places);
    brought_ = next;
    return tile;
  }

 private:
  HOPFIELD_DEVICE int stage(int number) const { return at_.stages + number % Shared::kStages * at_.stage; }

  /// The first tile from `number` on of which a query sees a pattern of the block.
  HOPFIELD_DEVICE int64_t seen_from(int64_t number) const {
    const auto sees = [&](int64_t row) { return set_.visible(p_.b.call, p_.b.sets, row, row + kRows) > first_; };
    while (number < end_ && !sees(number % p_.parts.tiles * kRows)) ++number;
    return number;
  }

  HOPFIELD_DEVICE void fetch() {
    if (fetched_ >= end_) return;
    const auto& b = p_.b;
    const auto step = fetched_ / p_.parts.tiles, first = fetched_ % p_.parts.tiles * kRows;
    const bool last = step == b.call.most_steps;
    const int at = stage(fetches_++), depth = static_cast<int>(b.call.depth),
              width = static_cast<int>(last ? b.call.width : b.call.depth);
    T* states = shared_memory<T>(at);
    for (int row = thread_index() / 8; row < kRows; row += block_size() / 8) {
      const auto place = set_.query(b.call, b.sets, first + row);
      // Where the query does not exist, its address is that of another row, from which nothing is read.
      T* to = states + row * kPitch;
      copy_row(to, product_width<T>(depth), b.template state<T>(place, step), depth, place.exists);
      const T* incoming = last ? place.template in<T>(b.g.output) : b.template saved<T>(b.passed, step + 1, place.row);
      copy_row(to + kRows * kPitch, product_width<T>(width), incoming, width, place.exists);
      if (at_.tensors == 3 && step > 0) {
        copy_row(to + 2 * kRows * kPitch, product_width<T>(depth), b.template rounding_error<T>(place, step), depth,
                 place.exists);
      }
      if (lane_index() % 8 != 0) continue;
      Mark* mark = shared_memory<Mark>(at + at_.marks) + row;
      if (place.exists) {
        copy_async_16(mark, b.mark(step, place.row));
      } else {
        *mark = Mark::none();
      }
      shared_memory<QueryPlace>(at + at_.places)[row] = place;
    }
    commit_copies();
    fetched_ = seen_from(fetched_ + 1);
  }

  const PatternBackward& p_;
  const RetrieveSet& set_;
  const Shared at_;
  const int64_t first_, end_;
  int64_t fetched_, brought_;     ///< numbers of the tiles that are fetched and brought next
  int fetches_ = 0, brings_ = 0;  ///< how many have been; tile i of them is in stage i % kStages
};

/// A warp's patterns, and the sum that becomes their gradient: of the stored patterns beta dS^T xi plus, if they were
/// read out, P^T g; of values P^T g, where g is the gradient of what the association read out.
template <class T, int padded_width>
class PatternTile {
 public:
  using Shared = PatternShared<T, padded_width>;

  HOPFIELD_DEVICE PatternTile(const PatternBackward& p, const RetrieveSet& set, const Shared& at, int64_t first)
      : p_(p),
        set_(set),
        first_(static_cast<int>(first) + warp_index() * kWarpRows<T, padded_width>),
        stored_(shared_memory<T>(at.stored)),
        values_(shared_memory<T>(p.b.call.values.data != nullptr ? at.values : at.stored)) {
    const auto& call = p.b.call;
    const auto* key_bias = set.key_bias(call);
    const auto load = [&](T* tile, const Strided& tensor, int64_t width) {
      const T* source = set.template patterns<T>(tensor);
      for (int row = thread_index() / 8; row < block_size() / 32 * kWarpRows<T, padded_width>;
           row += block_size() / 8) {
        const auto key = first + row;
        const bool taken = key < set.keys && (key_bias == nullptr || key_bias[key] != minus_infinity());
        copy_row(tile + row * kPitch, product_width<T>(width), source + (taken ? key * tensor.row : 0),
                 static_cast<int>(width), taken);
      }
    };
    load(stored_, call.stored, call.depth);
    if (call.values.data != nullptr) load(values_, call.values, call.width);
    commit_copies();
    stored_ += warp_index() * kWarpRows<T, padded_width> * kPitch;
    values_ += warp_index() * kWarpRows<T, padded_width> * kPitch;
  }

  /// Adds what a tile of queries passes back to the stored patterns or to the values.
  HOPFIELD_DEVICE void add(const PassingTile<T>& tile, bool to_values) {
    const auto& call = p_.b.call;
    if (!any(tile.marks[lane_index() % Shared::kRows].inverse != 0.0f)) return;
    const bool last = tile.step == call.most_steps, plain = call.plain_float32;
    const int depth = product_width<T>(call.depth), width = last ? product_width<T>(call.width) : depth;
    HOPFIELD_UNROLL_BY(1)
    for (int row = 0; row < Shared::kRows; row += kRowsAtOnce) {
      const T *states = tile.states + row * kPitch, *incoming = tile.incoming + row * kPitch;
      Scores weights = {}, gradients = {};
      if (tile.rounding_error != nullptr) {
        multiply_rows<T, padded_width>(weights, stored_, 0, tile.rounding_error + row * kPitch, depth, plain);
      }
      multiply_rows<T, padded_width>(weights, stored_, 0, states, depth, plain);
      if (!to_values) {
        multiply_rows<T, padded_width>(gradients, last ? values_ : stored_, 0, incoming, width, plain);
      }
      find_gradients(weights, gradients, tile, row);
      if (to_values || !last || call.values.data == nullptr) {
        multiply_weights<T, padded_width>(sums_, weights, incoming, width, plain);
      }
      if (!to_values) multiply_weights<T, padded_width>(sums_, gradients, states, depth, plain);
    }
  }

  HOPFIELD_DEVICE void write(bool to_values, int64_t part) const {
    const auto& call = p_.b.call;
    const auto& target = to_values ? p_.b.g.values : p_.b.g.stored;
    const auto width = to_values ? call.width : call.depth;
    HOPFIELD_UNROLL
    for (int i = 0; i < kBands<T, padded_width> * padded_width / 2; ++i) {
      const int band = i / (padded_width / 2), half = i / (padded_width / 4) % 2, t = i / 2 % (padded_width / 8);
      const int key = first_ + row_of_lane(band, half), k = column_of_lane(t) + i % 2;
      if (key >= set_.keys || k >= width) continue;
      const auto at = set_.batch * target.batch + set_.head * target.head + (set_.first + key) * target.row + k;
      const float value = sums_[band][t][2 * half + i % 2];
      if (p_.parts.count == 1) {
        static_cast<T*>(target.data)[at] = from_float<T>(value);
      } else {
        const auto size = to_values ? p_.b.part_sizes.values : p_.b.part_sizes.stored;
        static_cast<float*>(target.data)[part * size + at] = value;
      }
    }
  }

 private:
  static constexpr int kPitch = kRetrievePitch<T, padded_width>;
  using Scores = float[kBands<T, padded_width>][kRowsAtOnce / 8][4];

  /// Turns the products of a tile into P and beta dS. Dropout applies to P and to the gradient of P.
  HOPFIELD_DEVICE void find_gradients(Scores& weights, Scores& gradients, const PassingTile<T>& tile, int row) const {
    const auto& call = p_.b.call;
    const bool drops = tile.step == call.most_steps && call.dropout > 0.0;
    const bool biased = call.key_bias != nullptr || call.mask.kind != ScoreMask::Kind::none || call.is_causal;
    const auto* key_bias = set_.key_bias(call);
    HOPFIELD_UNROLL
    for (int i = 0; i < kBands<T, padded_width> * kRowsAtOnce / 2; ++i) {
      const int band = i / (kRowsAtOnce / 2), j = i / 4 % (kRowsAtOnce / 8);
      float &weight = weights[band][j][i % 4], &gradient = gradients[band][j][i % 4];
      const int key = first_ + row_of_lane(band, i / 2 % 2), query = row + column_of_lane(j) + i % 2;
      const auto mark = tile.marks[query];
      const auto& place = tile.places[query];
      const bool exists = key < set_.keys;
      const float bias = biased && exists ? score_bias(call, key_bias, place, key) : 0.0f;
      float score = fused_multiply_add(weight, mark.beta * kLog2e, bias == minus_infinity() ? 0.0f : bias * kLog2e);
      if (!exists || bias == minus_infinity()) score = minus_infinity();
      weight = mark.weight(score);
      const float factor =
          drops ? dropout_factor(call.seed, call.dropout, place.batch, place.head, place.query, key) : 1.0f;
      gradient = weight * (gradient * factor - mark.mean) * mark.beta;
      weight *= factor;
    }
  }

  const PatternBackward& p_;
  const RetrieveSet& set_;
  const int first_;      ///< first pattern of the warp
  T *stored_, *values_;  ///< of the warp, in shared memory
  float sums_[kBands<T, padded_width>][padded_width / 8][4] = {};
};

/// A tile of patterns: its set, and its first pattern there.
struct PatternPlace {
  int64_t set = 0, first = 0;
};

/// The tile of a block. The host does not know the sizes of bags, so tiles are numbered in a way that needs none: those
/// of bag n begin with number offsets[n] / rows + n. The next bag's number is far enough for all tiles of bag n; one
/// tile may be left over, which has no patterns.
HOPFIELD_DEVICE PatternPlace find_patterns(const PatternBackward& p, int64_t number, int rows) {
  const auto& call = p.b.call;
  if (call.offsets == nullptr) return {number / p.tiles, number % p.tiles * rows};
  const int64_t heads = p.b.sets.all_heads ? 1 : call.heads, tile = number % p.tiles;
  int64_t bag = 0, end = call.batch;  // the last bag that begins at this tile or before is in [bag, end)
  while (end - bag > 1) {
    const auto middle = (bag + end) / 2;
    (call.offsets[middle] / rows + middle <= tile ? bag : end) = middle;
  }
  return {bag * heads + number / p.tiles, (tile - call.offsets[bag] / rows - bag) * rows};
}

/// The gradient of a tile of stored patterns, or of values: a block for each tile and part.
template <class T, int padded_width>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kRetrieveThreads, 1)
    retrieve_patterns_back(PatternBackward p, bool values) {
  const auto& call = p.b.call;
  const int64_t part = block_index().x % p.parts.count;
  const auto place = find_patterns(p, block_index().x / p.parts.count, block_size() / 32 * kWarpRows<T, padded_width>);
  const RetrieveSet set(call, p.b.sets, place.set);
  if (place.first >= set.keys) return;
  const PatternShared<T, padded_width> at(call.values.data != nullptr, p.b.g.saved.rounding_error != nullptr,
                                          block_size() / 32);
  PatternTile<T, padded_width> work(p, set, at, place.first);
  int64_t begin = part * p.parts.tiles_of_part, end = begin + p.parts.tiles_of_part;
  const auto all = p.parts.tiles * (call.most_steps + 1), read_out = p.parts.tiles * call.most_steps;
  if (values && begin < read_out) begin = read_out;
  if (end > all) end = all;
  QueryStream<T, padded_width> queries(p, set, at, place.first, begin, end);
  while (queries.has_more()) work.add(queries.bring(), values);
  work.write(values, part);
}

template <class T, int padded_width>
std::string run(RetrieveBackward b, Stream stream) {
  const auto& call = b.call;
  const BackwardBlock<PatternShared<T, padded_width>> block(call, call.values.data != nullptr,
                                                            b.g.saved.rounding_error != nullptr);
  const int64_t rows = block.warps * kWarpRows<T, padded_width>;
  b.sets = retrieve_sets(call, rows);
  const Parts parts(call, b.sets.rows, kPassingRows<T, padded_width>);
  const bool ragged = call.is_ragged();
  const PatternBackward p{b, parts, ragged ? call.keys / rows + call.batch : (call.keys + rows - 1) / rows};
  const auto sets = ragged ? b.sets.sets / (call.batch > 0 ? call.batch : 1) : b.sets.sets;
  const LaunchShape shape{{sets * p.tiles * parts.count, 1, 1}, 32 * block.warps, block.bytes};
  for (const bool values : {false, true}) {
    if ((values ? b.g.values : b.g.stored).data == nullptr || shape.grid[0] == 0) continue;
    auto error = launch(retrieve_patterns_back<T, padded_width>, shape, stream, p, values);
    if (!error.empty()) return error;
  }
  return {};
}

}  // namespace

PatternGradientForm pattern_gradient_form(const RetrieveCall& call) {
  const auto sets = retrieve_sets(call, 1);
  const auto rows = sets.rows * (call.most_steps + 1);
  const auto parts = (rows + kRowsOfPart - 1) / kRowsOfPart;
  return {sets.all_batch, sets.all_heads, parts < 1 ? 1 : parts > kMostParts ? kMostParts : parts};
}

size_t retrieve_backward_patterns_shared_bytes(const RetrieveCall& call) {
  return for_patterns(call, [&](auto number, auto width) {
    using Shared = PatternShared<decltype(number), width()>;
    return BackwardBlock<Shared>(call, call.values.data != nullptr, keeps_rounding_error(call)).bytes;
  });
}

std::string retrieve_backward_patterns(const RetrieveBackward& backward, Stream stream) {
  return for_patterns(backward.call,
                      [&](auto number, auto width) { return run<decltype(number), width()>(backward, stream); });
}

}  // namespace hopfield::kernels::cuda
