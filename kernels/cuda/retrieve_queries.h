#pragma once

// A warp's queries: an association with all patterns of their set, and the update that follows it.

#include <kernels/cuda/retrieve_forward.h>
#include <kernels/cuda/retrieve_scores.h>
#include <kernels/cuda/retrieve_stream.h>

namespace hopfield::kernels::cuda {

/// Patterns of a tile. Their scores are in registers together, beside the sums of `padded_width` features.
template <class T, int padded_width>
constexpr int kKeysAtOnce = (kIsFloat<T> || padded_width > 64) ? 32 : 64;

/// How far a query has come.
struct QueryProgress {
  int64_t steps_max = 0, steps = 0;
  float eps = 0.0f, residual = bits_float(0x7FC00000u);
  bool frozen = true;

  HOPFIELD_DEVICE bool active(int64_t step) const { return !frozen && step < steps_max; }
};

/// Warps of a block at most.
constexpr int kMostRetrieveWarps = 8;

/// Shared memory of a block, in bytes from its beginning, with `tiles` tiles of `keys` patterns.
template <class T, int padded_width, int keys = kKeysAtOnce<T, padded_width>>
struct QueryShared {
  using Patterns = PatternStream<T, padded_width, keys, 1>;
  static constexpr int kRowBytes = kRetrievePitch<T, padded_width> * static_cast<int>(sizeof(T));
  int queries, places, progress, votes, patterns, total;

  HOPFIELD_DEVICE constexpr explicit QueryShared(bool exact_states, int warps = kRetrieveWarps,
                                                 int tiles = Patterns::kStages)
      : queries(0),
        places(queries + (exact_states && !kIsFloat<T> ? 2 : 1) * warps * kWarpRows<T, padded_width> * kRowBytes),
        progress(places + warps * kWarpRows<T, padded_width> * static_cast<int>(sizeof(QueryPlace))),
        votes(progress + warps * kWarpRows<T, padded_width> * static_cast<int>(sizeof(QueryProgress))),
        patterns(votes + 2 * kMostRetrieveWarps * 4),
        total(patterns + tiles * Patterns::kTileBytes) {}
};

/// A warp's queries. The state of each lies in shared memory in the patterns' type, as the query of the next
/// association, and in device memory in float32, for the next movement and for the results. With `exact_states`, what
/// rounding to 16 bits lost lies in shared memory, too, and is multiplied with the patterns as well.
template <class T, int padded_width, int keys = kKeysAtOnce<T, padded_width>>
class QueryTile {
 public:
  using Patterns = PatternStream<T, padded_width, keys, 1>;
  using Scores = Fragments<kBands<T, padded_width>, keys / 8>;

  HOPFIELD_DEVICE QueryTile(const RetrieveForward& f, const RetrieveSet& set, int64_t tile, Patterns& patterns)
      : f_(f),
        set_(set),
        patterns_(patterns),
        rounding_error_(f.call.exact_states && !kIsFloat<T> ? warps() * kRows * kPitch : 0),
        depth_(product_width<T>(f.call.depth)) {
    const QueryShared<T, padded_width, keys> at(f.call.exact_states, warps());
    const int first = opaque(warp_index()) * kRows;
    queries_ = shared_memory<T>(at.queries) + first * kPitch;
    places_ = shared_memory<QueryPlace>(at.places) + first;
    progress_ = shared_memory<QueryProgress>(at.progress) + first;
    if (lane_index() < kRows) {
      const auto place = set.query(f.call, f.sets, tile * warps() * kRows + first + lane_index());
      QueryProgress progress;
      if (place.exists) {
        progress.steps_max = f.call.steps_max[place.head];
        progress.eps = f.call.eps[place.head];
        progress.frozen = false;
      }
      places_[lane_index()] = place;
      progress_[lane_index()] = progress;
    }
    sync_warp();
    for_rows<kBands<T, padded_width>>([&](int band, int half, int row) {
      beta_[band][half] = places_[row].exists ? f.call.beta[places_[row].head] : 0.0f;
    });
  }

  /// Leaves out the tiles of patterns that a causal mask hides from all queries: from those of the block where its
  /// warps share a stream, from those of the warp where the patterns are resident. Called before the stream begins.
  HOPFIELD_DEVICE void hide_patterns(int64_t tile) {
    if (f_.out.scores != nullptr) return;  // those of hidden patterns are wanted, too
    const int64_t warp = tile * warps() + opaque(warp_index()), begin = patterns_.resident() ? warp : tile * warps(),
                  end = patterns_.resident() ? warp + 1 : begin + warps();
    patterns_.show(set_.visible(f_.call, f_.sets, begin * kRows, end * kRows));
  }

  /// Copies the queries to shared memory and to the float32 states.
  HOPFIELD_DEVICE void load() const {
    const auto& call = f_.call;
    for (int row = 0; row < kRows; ++row) {
      const auto place = places_[row];
      const T* from = place.template in<T>(call.state);
      for (int k = opaque(lane_index()); k < depth_; k += 32) {
        const float value = place.exists && k < call.depth ? to_float(from[k]) : 0.0f;
        put_query(row, k, value);
        if (place.exists && k < call.depth) f_.state(place.row)[k] = value;
      }
    }
    sync_warp();
  }

  HOPFIELD_DEVICE bool any_active(int64_t step) const {
    return any(lane_index() < kRows && progress_[lane_index() % kRows].active(step));
  }

  /// Associates the queries with all tiles. sums_ are then those of the weighted stored patterns, or if `last` of the
  /// values.
  HOPFIELD_DEVICE void associate(bool last) {
    associate(last, [](const Scores&, const T*) {});
  }

  /// @param look  called with the scores of each tile of stored patterns, and the tile
  template <class Look>
  HOPFIELD_DEVICE void associate(bool last, const Look& look) {
    for_rows<kBands<T, padded_width>>([&](int band, int half, int) {
      largest_[band][half] = minus_infinity();
      sum_[band][half] = 0.0f;
    });
    clear(sums_);
    const bool values = last && f_.call.values.data != nullptr;
    const int width = values ? product_width<T>(f_.call.width) : depth_;
    for (int number = 0; number < patterns_.tiles(); ++number) {
      const T* tile = patterns_.stored(number);
      Scores weights = {};
      multiply_rows<T, padded_width>(weights, queries_, rounding_error_, tile, depth_, f_.call.plain_float32);
      const int first = number * keys;
      finish_scores(weights, f_.call, set_, places_, beta_, first, last && f_.out.scores != nullptr,
                    [&](const QueryPlace& place, int key, float score) { note_score(place, key, score); });
      look(weights, tile);
      find_weights(weights);
      if (last && f_.call.dropout > 0.0) drop_out(weights, f_.call, places_, first);
      if (values) tile = patterns_.values(number);
      multiply_weights<T, padded_width>(sums_, weights, tile, width, f_.call.plain_float32);
    }
    sum_rows(sum_);
  }

  /// Moves the states to the means that update `step` found.
  HOPFIELD_DEVICE void update(int64_t step) {
    const auto& call = f_.call;
    sync_warp();  // other lanes may still read the queries
    for_rows<kBands<T, padded_width>>([&](int band, int half, int row) {
      const auto place = places_[row];
      auto progress = progress_[row];
      const bool was_active = progress.active(step), gone = dead(band, half), moves = was_active && !gone;
      const float scale = gone ? 0.0f : 1.0f / sum_[band][half];
      float* states = f_.state(place.row);
      float squares = 0.0f;
      const int column = opaque(column_of_lane(0));
      HOPFIELD_UNROLL
      for (int i = 0; i < padded_width / 4; ++i) {
        const int k = column + 8 * (i / 2) + i % 2;
        if (!moves || k >= call.depth) continue;
        const float next = sums_[band][i / 2][2 * half + i % 2] * scale, difference = next - states[k];
        squares = fused_multiply_add(difference, difference, squares);
        states[k] = next;
        put_query(row, k, next);
        save_state(step, place.row, k, next);
      }
      squares = quad_sum(squares);
      if (was_active) {
        save_sums(place, step, band, half);
        progress.residual = gone ? 0.0f : squares > 0.0f ? 1.0f / fast_rsqrt(squares) : squares;
        if (moves) progress.steps += 1;
        const bool goes_on = progress.residual > progress.eps && progress.residual < bits_float(0x7F800000u);
        progress.frozen = gone || (progress.eps > 0.0f && !goes_on);
      }
      sync_warp();  // its lanes have read the row's progress
      if (lane_index() % 4 == 0) progress_[row] = progress;
    });
    sync_warp();
  }

  HOPFIELD_DEVICE void write_results() const {
    write_results([&](int row) { return f_.state(places_[row].row); });
  }

  /// @param state_of  returns the float32 state of a row
  template <class StateOf>
  HOPFIELD_DEVICE void write_results(const StateOf& state_of) const {
    const auto& call = f_.call;
    const auto& out = f_.out;
    for_rows<kBands<T, padded_width>>([&](int band, int half, int row) {
      const auto place = places_[row];
      const auto progress = progress_[row];
      if (!place.exists) return;
      const bool gone = dead(band, half);
      const float scale = gone ? 0.0f : 1.0f / sum_[band][half];
      const int column = opaque(column_of_lane(0));
      T *output = place.template in<T>(out.output), *rounded = place.template in<T>(out.state);
      HOPFIELD_UNROLL
      for (int i = 0; i < padded_width / 4; ++i) {
        const int k = column + 8 * (i / 2) + i % 2;
        if (k < call.width) output[k] = from_float<T>(sums_[band][i / 2][2 * half + i % 2] * scale);
      }
      const float* states = state_of(row);
      for (int64_t k = opaque(lane_index() % 4); k < call.depth; k += 4) {
        const float state = states[k];
        rounded[k] = from_float<T>(state);
        // The backward pass reads a state after each update, and from here on the state stands still.
        for (auto step = progress.steps; step < call.most_steps; ++step) save_state(step, place.row, k, state);
      }
      if (lane_index() % 4 != 0) return;
      save_sums(place, call.most_steps, band, half);
      const float residual = gone ? 0.0f : progress.residual;
      out.logsumexp[place.row] =
          gone ? minus_infinity() : (largest_[band][half] + fast_log2(sum_[band][half])) / kLog2e;
      out.residual[place.row] = residual;
      out.steps[place.row] = progress.steps;
      out.converged[place.row] = residual <= progress.eps;
    });
  }

 protected:
  static constexpr int kPitch = kRetrievePitch<T, padded_width>, kRows = kWarpRows<T, padded_width>;

  HOPFIELD_DEVICE static int warps() { return block_size() / 32; }

  /// Whether all keys are excluded.
  HOPFIELD_DEVICE bool dead(int band, int half) const {
    return largest_[band][half] == minus_infinity() && sum_[band][half] == 0.0f;
  }

  HOPFIELD_DEVICE void put_query(int row, int k, float value) const {
    T* to = queries_ + row * kPitch + k;
    *to = from_float<T>(value);
    if (rounding_error_ != 0) to[rounding_error_] = from_float<T>(value - to_float(*to));
  }

  HOPFIELD_DEVICE void save_state(int64_t step, int64_t row, int64_t k, float value) const {
    const auto& saved = f_.out.saved;
    if (saved.states == nullptr) return;
    const auto at = f_.saved_state(row, step) + k;
    const T rounded = from_float<T>(value);
    static_cast<T*>(saved.states)[at] = rounded;
    if (saved.rounding_error != nullptr)
      static_cast<T*>(saved.rounding_error)[at] = from_float<T>(value - to_float(rounded));
  }

  HOPFIELD_DEVICE void save_sums(const QueryPlace& place, int64_t step, int band, int half) const {
    if (f_.out.saved.sums == nullptr || lane_index() % 4 != 0) return;
    float* to = f_.saved_sums(place.row, step);
    to[0] = largest_[band][half];
    to[1] = sum_[band][half];
  }

  HOPFIELD_DEVICE void note_score(const QueryPlace& place, int key, float score) const {
    f_.out.scores[place.batch * f_.out.score_batch + place.head * f_.out.score_head + place.query * f_.out.score_query +
                  (set_.first + key) * f_.out.score_key] = score;
  }

  /// From scores to exponentials relative to the largest score so far. What was summed before is scaled to it.
  HOPFIELD_DEVICE void find_weights(Scores& weights) {
    for_rows<kBands<T, padded_width>>([&](int band, int half, int) {
      float& largest_before = largest_[band][half];
      float largest = largest_before;
      HOPFIELD_UNROLL
      for (int i = 0; i < keys / 4; ++i) {
        const float score = weights[band][i / 2][2 * half + i % 2];
        largest = score > largest ? score : largest;
      }
      largest = quad_max(largest);
      const float factor = rescaling(largest_before, largest);
      largest_before = largest;
      sum_[band][half] *= factor;
      HOPFIELD_UNROLL
      for (int t = 0; t < padded_width / 8; ++t) {
        sums_[band][t][2 * half] *= factor;
        sums_[band][t][2 * half + 1] *= factor;
      }
      HOPFIELD_UNROLL
      for (int i = 0; i < keys / 4; ++i) {
        float& weight = weights[band][i / 2][2 * half + i % 2];
        weight = weight == minus_infinity() ? 0.0f : fast_exp2(weight - largest);
        sum_[band][half] += weight;
      }
    });
  }

  const RetrieveForward& f_;
  const RetrieveSet& set_;
  Patterns& patterns_;
  const int rounding_error_;  ///< elements from a query to its rounding error in shared memory; 0: it has none
  const int depth_;           ///< rounded up to whole products
  // Of the warp, in shared memory.
  T* queries_;
  QueryPlace* places_;
  QueryProgress* progress_;
  // Of the lane's rows: of the association at hand, the largest score so far in units of log 2, and the sum of
  // exponentials of the lane's own keys.
  float beta_[kBands<T, padded_width>][2] = {}, largest_[kBands<T, padded_width>][2] = {},
                        sum_[kBands<T, padded_width>][2] = {};
  float sums_[kBands<T, padded_width>][padded_width / 8][4] = {};
};

}  // namespace hopfield::kernels::cuda
