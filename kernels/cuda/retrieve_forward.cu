#include <kernels/cuda/launch.h>
#include <kernels/cuda/retrieve_dispatch.h>
#include <kernels/cuda/retrieve_stream.h>
#include <kernels/cuda/retrieve_warpgroup.h>
#include <kernels/philox.h>

namespace hopfield::kernels::cuda {
namespace {

/// Everything the kernel gets.
struct Forward {
  RetrieveCall call;
  RetrieveOutputs out;
  RetrieveSets sets;
};

/// 0, or what entries of the final association of an even key and the next are multiplied by. Not inlined: it would be
/// as often as a lane has keys.
HOPFIELD_DEVICE_CALL FloatPair dropout_factors(uint64_t seed, float probability, int batch, int head, int query,
                                               int key) {
  if (probability >= 1.0f) return {0.0f, 0.0f};
  const auto words = dropout_words(seed, static_cast<uint32_t>(batch), static_cast<uint32_t>(head),
                                   static_cast<uint32_t>(query), static_cast<uint32_t>(key / 4));
  const auto threshold = dropout_threshold(probability);
  const float kept = 1.0f / (1.0f - probability);
  const bool upper = key % 4 == 2;
  return {(upper ? words[2] : words[0]) < threshold ? 0.0f : kept,
          (upper ? words[3] : words[1]) < threshold ? 0.0f : kept};
}

/// What a lane knows of one of its two rows.
struct Row {
  QueryPlace place;
  float beta = 0.0f, eps = 0.0f;
  int64_t steps_max = 0, steps = 0;
  float residual = bits_float(0x7FC00000u);
  bool frozen = false;
  int64_t mask = 0;  ///< where its scores begin in the mask
  // Of the association at hand.
  float largest = minus_infinity();  ///< score so far, in units of log 2
  float sum = 0.0f;                  ///< of exponentials; the lane's own keys, until finish()

  HOPFIELD_DEVICE bool active(int64_t step) const { return place.exists && !frozen && step < steps_max; }
  /// Nothing to attend to.
  HOPFIELD_DEVICE bool dead() const { return largest == minus_infinity() && sum == 0.0f; }
};

/// Shared memory of a block, in bytes from its beginning.
template <class T, int room>
struct ForwardShared {
  static constexpr int kTile = kRetrieveRows * kRetrievePitch<T, room> * static_cast<int>(sizeof(T));
  int queries, patterns, votes, total;

  HOPFIELD_DEVICE constexpr explicit ForwardShared(bool exact_states)
      : queries(0),
        patterns(queries + (exact_states && !kIsFloat<T> ? 2 : 1) * kTile),
        votes(patterns + PatternStream<T, room>::kBytes),
        total(votes + 2 * kRetrieveWarps * 4) {}
};

/// A warp's 16 queries on their way through all steps. A lane has two rows of all fragments, g and g + 8.
template <class T, int room>
class QueryTile {
 public:
  using Patterns = PatternStream<T, room>;

  HOPFIELD_DEVICE QueryTile(const Forward& f, const RetrieveSet& set, int64_t tile, Patterns& patterns)
      : f_(f),
        set_(set),
        patterns_(patterns),
        bias_(set.key_bias(f.call)),
        splits_(f.call.exact_states && !kIsFloat<T>),
        depth_(product_width<T>(f.call.depth)),
        queries_(shared_memory<T>() + warp_index() * 16 * kPitch) {
    const auto& call = f.call;
    HOPFIELD_UNROLL
    for (int r = 0; r < 2; ++r) {
      auto& row = rows_[r];
      row.place = set.query(call, f.sets, tile * kRetrieveRows + warp_index() * 16 + lane_index() / 4 + 8 * r);
      if (!row.place.exists) continue;
      row.beta = call.beta[row.place.head];
      row.eps = call.eps[row.place.head];
      row.steps_max = call.steps_max[row.place.head];
      row.mask =
          row.place.batch * call.mask.batch + row.place.head * call.mask.head + row.place.query * call.mask.query;
    }
  }

  /// Takes the queries to shared memory and to the states.
  HOPFIELD_DEVICE void load() const {
    const auto& call = f_.call;
    HOPFIELD_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto& place = rows_[r].place;
      const T* from = static_cast<const T*>(call.state.data) + place.batch * call.state.batch +
                      place.head * call.state.head + place.query * call.state.row;
      for (int k = lane_index() % 4; k < depth_; k += 4) {
        const float value = place.exists && k < call.depth ? to_float(from[k]) : 0.0f;
        put_query(r, k, value);
        if (place.exists && k < call.depth) f_.out.states[place.row * call.depth + k] = value;
      }
    }
    sync_warp();
  }

  HOPFIELD_DEVICE bool any_active(int64_t step) const { return any(rows_[0].active(step) || rows_[1].active(step)); }

  /// One association over all tiles; sums_ are then those of the stored patterns or, if it reads out, of the values.
  HOPFIELD_DEVICE void associate(bool last) {
    HOPFIELD_UNROLL
    for (auto& row : rows_) {
      row.largest = minus_infinity();
      row.sum = 0.0f;
    }
    HOPFIELD_UNROLL
    for (int t = 0; t < room / 8; ++t) {
      HOPFIELD_UNROLL
      for (int i = 0; i < 4; ++i) sums_[t][i] = 0.0f;
    }
    const bool values = last && f_.call.values.data != nullptr;
    const int width = values ? product_width<T>(f_.call.width) : depth_;
    for (int number = 0; number < patterns_.tiles(); ++number) {
      const T* tile = patterns_.bring();
      float weights[kKeys / 8][4] = {};
      multiply_scores<T, room>(weights, queries_, tile, depth_, splits_, f_.call.plain_float32);
      finish_scores(weights, number * kKeys, last);
      find_weights(weights, number * kKeys, last);
      if (values) tile = patterns_.bring();
      multiply_patterns<T, room>(sums_, weights, tile, width, f_.call.plain_float32);
    }
    for (auto& row : rows_) row.sum = quad_sum(row.sum);
  }

  /// Moves the states to what update `step` found.
  HOPFIELD_DEVICE void update(int64_t step) {
    const auto& call = f_.call;
    sync_warp();  // other lanes may still read the queries
    HOPFIELD_UNROLL
    for (int r = 0; r < 2; ++r) {
      auto& row = rows_[r];
      const bool was_active = row.active(step), dead = row.dead(), moves = was_active && !dead;
      const float scale = dead ? 0.0f : 1.0f / row.sum;
      float* states = f_.out.states + row.place.row * call.depth;
      float squares = 0.0f;
      HOPFIELD_UNROLL
      for (int t = 0; t < room / 8; ++t) {
        HOPFIELD_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int k = feature(t, i);
          if (!row.place.exists || k >= call.depth) continue;
          const float before = states[k], next = sums_[t][2 * r + i] * scale, difference = next - before;
          squares = fused_multiply_add(difference, difference, squares);
          if (moves) {
            states[k] = next;
            put_query(r, k, next);
          }
          if (f_.out.saved_states != nullptr) {
            f_.out.saved_states[(step * all_rows() + row.place.row) * call.depth + k] = moves ? next : before;
          }
        }
      }
      squares = quad_sum(squares);
      if (!was_active) continue;
      save_sums(row, step);
      row.residual = dead ? 0.0f : squares > 0.0f ? 1.0f / fast_rsqrt(squares) : squares;
      if (moves) row.steps += 1;
      const bool goes_on = row.residual > row.eps && row.residual < bits_float(0x7F800000u);
      row.frozen = dead || (row.eps > 0.0f && !goes_on);
    }
    sync_warp();
  }

  HOPFIELD_DEVICE void write_results() const {
    const auto& call = f_.call;
    const auto& out = f_.out;
    HOPFIELD_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto& row = rows_[r];
      if (!row.place.exists) continue;
      const bool dead = row.dead();
      const float scale = dead ? 0.0f : 1.0f / row.sum;
      HOPFIELD_UNROLL
      for (int t = 0; t < room / 8; ++t) {
        HOPFIELD_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int k = feature(t, i);
          if (k >= call.width) continue;
          const float value = sums_[t][2 * r + i] * scale;
          static_cast<T*>(out.output)[row.place.row * call.width + k] = from_float<T>(value);
          if (out.saved_output != nullptr) out.saved_output[row.place.row * call.width + k] = value;
        }
      }
      for (int64_t k = lane_index() % 4; k < call.depth; k += 4) {
        const float state = out.states[row.place.row * call.depth + k];
        static_cast<T*>(out.state)[row.place.row * call.depth + k] = from_float<T>(state);
        // The states stood still from there on: what the backward pass will look for.
        for (auto step = row.steps; out.saved_states != nullptr && step < call.most_steps; ++step) {
          out.saved_states[(step * all_rows() + row.place.row) * call.depth + k] = state;
        }
      }
      if (lane_index() % 4 != 0) continue;
      save_sums(row, call.most_steps);
      const float residual = dead ? 0.0f : row.residual;
      out.logsumexp[row.place.row] = dead ? minus_infinity() : (row.largest + fast_log2(row.sum)) / kLog2e;
      out.residual[row.place.row] = residual;
      out.steps[row.place.row] = row.steps;
      out.converged[row.place.row] = residual <= row.eps;
    }
  }

 private:
  static constexpr int kPitch = kRetrievePitch<T, room>, kKeys = kRetrieveKeys<T, room>;

  HOPFIELD_DEVICE static int feature(int t, int i) { return 8 * t + 2 * (lane_index() % 4) + i; }
  HOPFIELD_DEVICE int64_t all_rows() const { return f_.call.batch * f_.call.heads * f_.call.queries; }

  HOPFIELD_DEVICE void put_query(int r, int k, float value) const {
    T* to = queries_ + (lane_index() / 4 + 8 * r) * kPitch + k;
    *to = from_float<T>(value);
    if (splits_) to[kRetrieveRows * kPitch] = from_float<T>(value - to_float(*to));
  }

  HOPFIELD_DEVICE void save_sums(const Row& row, int64_t step) const {
    if (f_.out.saved_sums == nullptr || lane_index() % 4 != 0) return;
    float* to = f_.out.saved_sums + 2 * (step * all_rows() + row.place.row);
    to[0] = row.largest;
    to[1] = row.sum;
  }

  /// From products to scores in units of log 2; -inf: excluded, or there is no such query or key.
  HOPFIELD_DEVICE void finish_scores(float (&scores)[kKeys / 8][4], int first, bool last) const {
    const auto& call = f_.call;
    HOPFIELD_UNROLL
    for (int i = 0; i < kKeys / 2; ++i) {
      float& score = scores[i / 4][i % 4];
      const auto& row = rows_[i / 2 % 2];
      const int key = first + 8 * (i / 4) + 2 * (lane_index() % 4) + i % 2;
      if (key >= set_.keys || !row.place.exists) {
        score = minus_infinity();
        continue;
      }
      float bias = bias_ != nullptr ? bias_[key] : 0.0f;
      if (call.mask.kind != ScoreMask::Kind::none) {
        const auto at = row.mask + key * call.mask.key;
        if (call.mask.kind == ScoreMask::Kind::float32) {
          bias += static_cast<const float*>(call.mask.data)[at];
        } else if (static_cast<const uint8_t*>(call.mask.data)[at] != 0) {
          bias = minus_infinity();
        }
      }
      const float natural = bias == minus_infinity() ? bias : row.beta * score + bias;
      if (last && f_.out.scores != nullptr) {
        f_.out.scores[row.place.batch * f_.out.score_batch + row.place.head * f_.out.score_head +
                      row.place.query * f_.out.score_query + (set_.first + key) * f_.out.score_key] = natural;
      }
      score = natural * kLog2e;
    }
  }

  /// From scores to exponentials; what was summed before is made relative to the new largest score.
  HOPFIELD_DEVICE void find_weights(float (&weights)[kKeys / 8][4], int first, bool last) {
    HOPFIELD_UNROLL
    for (int r = 0; r < 2; ++r) {
      auto& row = rows_[r];
      float largest = row.largest;
      HOPFIELD_UNROLL
      for (int i = 0; i < kKeys / 4; ++i) {
        const float score = weights[i / 2][2 * r + i % 2];
        largest = score > largest ? score : largest;
      }
      largest = quad_max(largest);
      // Before the first key there is nothing to scale; -inf must not be subtracted from itself.
      const float factor = row.largest == largest            ? 1.0f
                           : row.largest == minus_infinity() ? 0.0f
                                                             : fast_exp2(row.largest - largest);
      row.largest = largest;
      row.sum *= factor;
      HOPFIELD_UNROLL
      for (int t = 0; t < room / 8; ++t) {
        sums_[t][2 * r] *= factor;
        sums_[t][2 * r + 1] *= factor;
      }
      HOPFIELD_UNROLL
      for (int i = 0; i < kKeys / 4; ++i) {
        float& weight = weights[i / 2][2 * r + i % 2];
        weight = weight == minus_infinity() ? 0.0f : fast_exp2(weight - largest);
        row.sum += weight;
      }
      if (!last || f_.call.dropout <= 0.0f || !row.place.exists) continue;
      HOPFIELD_UNROLL
      for (int j = 0; j < kKeys / 8; ++j) {
        const auto factors = dropout_factors(f_.call.seed, f_.call.dropout, row.place.batch, row.place.head,
                                             row.place.query, first + 8 * j + 2 * (lane_index() % 4));
        weights[j][2 * r] *= factors.low;
        weights[j][2 * r + 1] *= factors.high;
      }
    }
  }

  const Forward& f_;
  const RetrieveSet& set_;
  Patterns& patterns_;
  const float* const bias_;
  const bool splits_;
  const int depth_;   ///< up to whole products
  T* const queries_;  ///< of the warp
  Row rows_[2];
  float sums_[room / 8][4] = {};
};

/// All steps of a tile of queries.
template <class T, int room>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kRetrieveThreads, 1) retrieve_all_steps(Forward f) {
  const ForwardShared<T, room> at(f.call.exact_states);
  const int64_t tile = block_index().x % f.sets.tiles;
  const RetrieveSet set(f.call, f.sets, block_index().x / f.sets.tiles);
  PatternStream<T, room> patterns(f.call, set, shared_memory<T>(at.patterns));
  QueryTile<T, room> work(f, set, tile, patterns);
  int* votes = shared_memory<int>(at.votes);
  work.load();
  patterns.begin(0);
  for (int64_t step = 0;; ++step) {
    // Twice the room: some warps may still count the votes before.
    int* vote = votes + step % 2 * kRetrieveWarps;
    const bool goes_on = work.any_active(step);
    if (lane_index() == 0) vote[warp_index()] = goes_on ? 1 : 0;
    sync_threads();
    bool last = true;
    for (int warp = 0; warp < kRetrieveWarps; ++warp) last = last && vote[warp] == 0;
    // All have stopped early: an update was expected, and its tiles are on their way.
    if (last && step < f.call.most_steps) patterns.begin(f.call.most_steps);
    work.associate(last);
    if (last) break;
    work.update(step);
  }
  work.write_results();
}

template <class T, int room>
std::string run(const RetrieveCall& call, const RetrieveOutputs& outputs, Stream stream) {
  const Forward f{call, outputs, retrieve_sets(call, kRetrieveRows)};
  const ForwardShared<T, room> shared(call.exact_states);
  const LaunchShape shape{{f.sets.sets * f.sets.tiles, 1, 1}, kRetrieveThreads, static_cast<size_t>(shared.total)};
  return launch(retrieve_all_steps<T, room>, shape, stream, f);
}

}  // namespace

std::string retrieve_reason_against(const RetrieveCall& call) {
  const auto width = call.depth > call.width ? call.depth : call.width;
  if (width > kRetrieveMostWidth) {
    return "the fused kernels of the GPU take heads of at most " + std::to_string(kRetrieveMostWidth) +
           " numbers, not " + std::to_string(width);
  }
  const auto needed = for_patterns(call, [&](auto patterns) {
    using Patterns = decltype(patterns);
    return static_cast<size_t>(ForwardShared<typename Patterns::Type, Patterns::kRoom>(call.exact_states).total);
  });
  const auto there = device_limits().shared_bytes;
  if (needed <= there) return {};
  return "heads of " + std::to_string(width) + " numbers take " + std::to_string(needed) +
         " bytes of shared memory, of which a block of this GPU has " + std::to_string(there);
}

std::string retrieve_forward(const RetrieveCall& call, const RetrieveOutputs& outputs, Stream stream) {
  if (call.batch * call.heads * call.queries == 0) return {};
#if defined(HOPFIELD_CUDA_WARPGROUP)
  if (retrieve_warpgroup_reason_against(call, outputs).empty())
    return retrieve_warpgroup_forward(call, outputs, stream);
#endif
  return for_patterns(call, [&](auto patterns) {
    using Patterns = decltype(patterns);
    return run<typename Patterns::Type, Patterns::kRoom>(call, outputs, stream);
  });
}

}  // namespace hopfield::kernels::cuda
