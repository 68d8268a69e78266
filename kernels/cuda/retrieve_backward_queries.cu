#include <kernels/cuda/retrieve_backward.h>
#include <kernels/cuda/retrieve_dispatch.h>
#include <kernels/cuda/retrieve_stream.h>

namespace hopfield::kernels::cuda {
namespace {

/// The updates of a query that gradients pass: from <= step < until.
struct Span {
  int64_t from = 0, until = 0;

  HOPFIELD_DEVICE bool has(int64_t step) const { return step >= from && step < until; }
};

/// Shared memory of a block, in bytes from its beginning.
template <class T, int padded_width>
struct BackwardShared {
  int queries, incoming, patterns, places, spans, total;

  HOPFIELD_DEVICE constexpr BackwardShared(bool rounding_error, int warps)
      : queries(0),
        incoming(queries + (rounding_error ? 2 : 1) * tile(warps)),
        patterns(incoming + tile(warps)),
        places(patterns + PatternStream<T, padded_width, kPassingRows<T, padded_width>, 2>::kBytes),
        spans(places + warps * kWarpRows<T, padded_width> * static_cast<int>(sizeof(QueryPlace))),
        total(spans + warps * kWarpRows<T, padded_width> * static_cast<int>(sizeof(Span))) {}

 private:
  HOPFIELD_DEVICE static constexpr int tile(int warps) {
    return warps * kWarpRows<T, padded_width> * kRetrievePitch<T, padded_width> * static_cast<int>(sizeof(T));
  }
};

/// A warp's queries on their way back through all associations. The gradient of their state lies in shared memory,
/// first that of the output; the state itself is loaded for each association.
///
/// For an update D is known without a sum over the keys: it is the product of the next state's gradient with the next
/// state, since that is P K. For the read-out, whose result was rounded and has dropped entries, a sweep finds it.
template <class T, int padded_width>
class GradientTile {
 public:
  static constexpr int kKeys = kPassingRows<T, padded_width>;
  using Patterns = PatternStream<T, padded_width, kKeys, 2>;

  HOPFIELD_DEVICE GradientTile(const RetrieveBackward& b, const RetrieveSet& set, int64_t tile, Patterns& patterns)
      : b_(b),
        set_(set),
        patterns_(patterns),
        rounding_error_(b.g.saved.rounding_error != nullptr ? warps() * kRows * kPitch : 0),
        depth_(product_width<T>(b.call.depth)) {
    const BackwardShared<T, padded_width> at(rounding_error_ != 0, warps());
    const int first = opaque(warp_index()) * kRows;
    queries_ = shared_memory<T>(at.queries) + first * kPitch;
    incoming_ = shared_memory<T>(at.incoming) + first * kPitch;
    places_ = shared_memory<QueryPlace>(at.places) + first;
    spans_ = shared_memory<Span>(at.spans) + first;
    if (lane_index() < kRows) {
      const auto place = set.query(b.call, b.sets, tile * warps() * kRows + first + lane_index());
      Span span;
      if (place.exists) {
        span.until = b.g.steps[place.row];
        span.from = span.until > b.g.last_steps ? span.until - b.g.last_steps : 0;
      }
      places_[lane_index()] = place;
      spans_[lane_index()] = span;
    }
    sync_warp();
    for_rows<kBands<T, padded_width>>([&](int band, int half, int row) {
      beta_[band][half] = places_[row].exists ? b.call.beta[places_[row].head] : 0.0f;
    });
  }

  /// Copies the gradient of the output to shared memory.
  HOPFIELD_DEVICE void load_output() const {
    const int width = product_width<T>(b_.call.width);
    for (int row = 0; row < kRows; ++row) {
      const auto& place = places_[row];
      const T* from = place.template in<T>(b_.g.output);
      for (int k = opaque(lane_index()); k < width; k += 32) {
        incoming_[row * kPitch + k] = place.exists && k < b_.call.width ? from[k] : from_float<T>(0.0f);
      }
    }
  }

  /// Loads the states of association `step` and its sums, and finds D if it is an update.
  HOPFIELD_DEVICE void begin(int64_t step) {
    const bool last = step == b_.call.most_steps;
    sync_warp();
    load_states(step);
    sync_warp();
    for_rows<kBands<T, padded_width>>([&](int band, int half, int row) {
      const auto& place = places_[row];
      auto mark = Mark::none();
      if (place.exists && (last || spans_[row].has(step))) {
        const float* sums = b_.sums(step, place.row);
        if (sums[1] > 0.0f || sums[1] != sums[1]) mark = {sums[0], 1.0f / sums[1], 0.0f, 0.0f};
      }
      largest_[band][half] = mark.largest;
      inverse_[band][half] = mark.inverse;
      float mean = 0.0f;
      if (!last && mark.inverse != 0.0f) {
        for (int k = opaque(lane_index() % 4); k < b_.call.depth; k += 4) {
          mean = fused_multiply_add(to_float(incoming_[row * kPitch + k]), next_state(place, step, k), mean);
        }
      }
      mean_[band][half] = quad_sum(mean);
    });
  }

  /// Passes the gradient back through association `step`.
  HOPFIELD_DEVICE void associate(int64_t step) {
    const bool last = step == b_.call.most_steps;
    float totals[kBands<T, padded_width>][2];
    clear(sums_);
    // dS is the small difference of dP and D, so D has to be the sum of the very products that it is subtracted from.
    // For the read-out, a sweep of its own adds them up.
    for (int finding = last ? 1 : 0; finding >= 0; --finding) {
      for_rows<kBands<T, padded_width>>([&](int band, int half, int) { totals[band][half] = 0.0f; });
      sweep(last, finding != 0, totals);
      sum_rows(totals);
      if (finding == 0) break;
      for_rows<kBands<T, padded_width>>([&](int band, int half, int row) {
        const auto& place = places_[row];
        const float more = b_.g.logsumexp != nullptr && place.exists ? b_.g.logsumexp[place.row] : 0.0f;
        mean_[band][half] = totals[band][half] - more;
      });
    }
    sync_warp();
    for_rows<kBands<T, padded_width>>(
        [&](int band, int half, int row) { finish(step, band, half, row, last ? 0.0f : totals[band][half]); });
    sync_warp();
  }

  /// Marks association `step` as one that no gradient of these queries passes.
  HOPFIELD_DEVICE void pass_over(int64_t step) const {
    for (int row = 0; row < kRows; ++row) {
      const auto& place = places_[row];
      if (!place.exists) continue;
      if (lane_index() == 0) *b_.mark(step, place.row) = Mark::none();
      if (step == 0) continue;
      T* passed = b_.template saved<T>(b_.passed, step, place.row);
      for (int k = opaque(lane_index()); k < b_.call.depth; k += 32) passed[k] = incoming_[row * kPitch + k];
    }
  }

  HOPFIELD_DEVICE void write_results() const {
    for (int row = 0; row < kRows; ++row) {
      const auto& place = places_[row];
      if (!place.exists) continue;
      // The state before the last updates counts as a constant.
      const bool constant = spans_[row].until >= b_.g.last_steps;
      T* query = place.template in<T>(b_.g.query);
      for (int k = opaque(lane_index()); k < b_.call.depth; k += 32) {
        query[k] = constant ? from_float<T>(0.0f) : incoming_[row * kPitch + k];
      }
    }
    for_rows<kBands<T, padded_width>>([&](int band, int half, int row) {
      const auto& place = places_[row];
      const float share = quad_sum(beta_share_[band][half]);
      if (place.exists && lane_index() % 4 == 0) b_.g.beta[place.row] = share;
    });
  }

 private:
  static constexpr int kPitch = kRetrievePitch<T, padded_width>, kRows = kWarpRows<T, padded_width>;

  HOPFIELD_DEVICE static int warps() { return block_size() / 32; }

  /// Number k of the state that update `step` led to.
  HOPFIELD_DEVICE float next_state(const QueryPlace& place, int64_t step, int k) const {
    const T* rounding_error = b_.template rounding_error<T>(place, step + 1);
    return to_float(b_.template state<T>(place, step + 1)[k]) +
           (rounding_error != nullptr ? to_float(rounding_error[k]) : 0.0f);
  }

  HOPFIELD_DEVICE void load_states(int64_t step) const {
    for (int row = 0; row < kRows; ++row) {
      const auto& place = places_[row];
      const T *state = b_.template state<T>(place, step), *rounding_error = b_.template rounding_error<T>(place, step);
      for (int k = opaque(lane_index()); k < depth_; k += 32) {
        const bool there = place.exists && k < b_.call.depth;
        T* to = queries_ + row * kPitch + k;
        *to = there ? state[k] : from_float<T>(0.0f);
        if (rounding_error_ != 0)
          to[rounding_error_] = there && rounding_error != nullptr ? rounding_error[k] : from_float<T>(0.0f);
      }
    }
  }

  /// One sweep over all tiles. If it finds the mean, `totals` are the sums of P dP. Otherwise they are the sums of dS,
  /// and the products of dS with the stored patterns are added to sums_.
  HOPFIELD_DEVICE void sweep(bool last, bool finds_mean, float (&totals)[kBands<T, padded_width>][2]) {
    const auto& call = b_.call;
    const bool own_values = last && call.values.data != nullptr;
    const int width = last ? product_width<T>(call.width) : depth_;
    for (int number = 0; number < patterns_.tiles(); ++number) {
      const T* read = patterns_.bring();
      const T* stored = own_values ? patterns_.bring() : read;
      HOPFIELD_UNROLL_BY(1)
      for (int row = 0; row < kKeys; row += kRowsAtOnce) {
        float weights[kBands<T, padded_width>][kRowsAtOnce / 8][4] = {},
                                                             gradients[kBands<T, padded_width>][kRowsAtOnce / 8][4] =
                                                                 {};
        const int first = number * kKeys + row;
        multiply_rows<T, padded_width>(gradients, incoming_, 0, read + row * kPitch, width, call.plain_float32);
        multiply_rows<T, padded_width>(weights, queries_, rounding_error_, stored + row * kPitch, depth_,
                                       call.plain_float32);
        finish_scores(weights, call, set_, places_, beta_, first, false, [](const QueryPlace&, int, float) {});
        if (last && call.dropout > 0.0) drop_out(gradients, call, places_, first);
        HOPFIELD_UNROLL
        for (int i = 0; i < kBands<T, padded_width> * kRowsAtOnce / 2; ++i) {
          const int band = i / (kRowsAtOnce / 2), j = i / 4 % (kRowsAtOnce / 8), half = i / 2 % 2;
          float& weight = weights[band][j][i % 4];
          const float gradient = gradients[band][j][i % 4] - (finds_mean ? 0.0f : mean_[band][half]);
          weight = Mark{largest_[band][half], inverse_[band][half], 0.0f, 0.0f}.weight(weight) * gradient;
          totals[band][half] += weight;
        }
        if (!finds_mean) {
          multiply_weights<T, padded_width>(sums_, weights, stored + row * kPitch, depth_, call.plain_float32);
        }
      }
    }
  }

  /// From the sums to the gradient of a row's state, and to its share of the gradient of beta.
  /// @param total  sum of dS. It should be 0, so D was off by as much: dS is corrected by -total P, and its product
  /// with
  ///   the patterns by -total times the next state. The next kernel gets the corrected D.
  HOPFIELD_DEVICE void finish(int64_t step, int band, int half, int row, float total) {
    const auto place = places_[row];
    const bool last = step == b_.call.most_steps, passes = last || spans_[row].has(step);
    if (!place.exists) return;
    const T* more = last && b_.g.state.data != nullptr ? place.template in<T>(b_.g.state) : nullptr;
    T* target = step > 0 ? b_.template saved<T>(b_.passed, step, place.row) : nullptr;
    HOPFIELD_UNROLL
    for (int i = 0; i < padded_width / 4; ++i) {
      const int k = column_of_lane(i / 2) + i % 2;
      if (k >= depth_) break;
      T* incoming = incoming_ + row * kPitch + k;
      if (k >= b_.call.depth) {  // the gradient of the output may be wider
        *incoming = from_float<T>(0.0f);
        continue;
      }
      if (passes) {
        float sum = sums_[band][i / 2][2 * half + i % 2];
        if (!last) sum = fused_multiply_add(-total, next_state(place, step, k), sum);
        const T* query = queries_ + row * kPitch + k;
        const float state = to_float(*query) + (rounding_error_ != 0 ? to_float(query[rounding_error_]) : 0.0f);
        beta_share_[band][half] = fused_multiply_add(state, sum, beta_share_[band][half]);
        *incoming =
            from_float<T>(fused_multiply_add(beta_[band][half], sum, more != nullptr ? to_float(more[k]) : 0.0f));
      }
      if (target != nullptr) target[k] = *incoming;
    }
    if (lane_index() % 4 == 0) {
      *b_.mark(step, place.row) = {largest_[band][half], inverse_[band][half], mean_[band][half] + total,
                                   beta_[band][half]};
    }
  }

  const RetrieveBackward& b_;
  const RetrieveSet& set_;
  Patterns& patterns_;
  const int rounding_error_;  ///< elements from a query to its rounding error in shared memory; 0: it has none
  const int depth_;           ///< rounded up to whole products
  // Of the warp, in shared memory.
  T *queries_, *incoming_;
  QueryPlace* places_;
  Span* spans_;
  // Of the lane's rows.
  float beta_[kBands<T, padded_width>][2] = {}, beta_share_[kBands<T, padded_width>][2] = {};
  float largest_[kBands<T, padded_width>][2] = {}, inverse_[kBands<T, padded_width>][2] = {},
                           mean_[kBands<T, padded_width>][2] = {};
  float sums_[kBands<T, padded_width>][padded_width / 8][4] = {};
};

/// All associations of a tile of queries, the last one first.
template <class T, int padded_width>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kRetrieveThreads, 1) retrieve_steps_back(RetrieveBackward b) {
  const BackwardShared<T, padded_width> at(b.g.saved.rounding_error != nullptr, block_size() / 32);
  const int64_t tile = block_index().x % b.sets.tiles, last = b.call.most_steps;
  const RetrieveSet set(b.call, b.sets, block_index().x / b.sets.tiles);
  PatternStream<T, padded_width, kPassingRows<T, padded_width>, 2> patterns(b.call, set, shared_memory<T>(at.patterns));
  GradientTile<T, padded_width> work(b, set, tile, patterns);
  work.load_output();
  const int64_t rows = block_size() / 32 * kWarpRows<T, padded_width>;
  patterns.show(set.visible(b.call, b.sets, tile * rows, (tile + 1) * rows));
  patterns.begin({0, 2, true});  // with a barrier, behind which all spans are known
  const auto* spans = shared_memory<Span>(at.spans);
  Span of_block{last, 0};
  for (int row = 0; row < block_size() / 32 * kWarpRows<T, padded_width>; ++row) {
    if (spans[row].from >= spans[row].until) continue;
    of_block.from = spans[row].from < of_block.from ? spans[row].from : of_block.from;
    of_block.until = spans[row].until > of_block.until ? spans[row].until : of_block.until;
  }
  for (auto step = last; step >= 0; --step) {
    if (step == last || of_block.has(step)) {
      work.begin(step);
      work.associate(step);
    } else {
      work.pass_over(step);
    }
  }
  work.write_results();
}

template <class T, int padded_width>
std::string run(RetrieveBackward b, Stream stream) {
  const BackwardBlock<BackwardShared<T, padded_width>> block(b.call, b.g.saved.rounding_error != nullptr);
  b.sets = retrieve_sets(b.call, block.warps * kWarpRows<T, padded_width>);
  const LaunchShape shape{{b.sets.sets * b.sets.tiles, 1, 1}, 32 * block.warps, block.bytes};
  return launch(retrieve_steps_back<T, padded_width>, shape, stream, b);
}

}  // namespace

std::string retrieve_backward_reason_against(const RetrieveCall& call) {
  const auto of_queries = for_patterns(call, [&](auto number, auto width) {
    return BackwardBlock<BackwardShared<decltype(number), width()>>(call, keeps_rounding_error(call)).bytes;
  });
  const auto needed = std::max(of_queries, retrieve_backward_patterns_shared_bytes(call)),
             there = retrieve_shared_bytes(call);
  if (needed <= there) return {};
  return "the gradient of heads of " + std::to_string(std::max(call.depth, call.width)) + " numbers takes " +
         std::to_string(needed) + " bytes of shared memory, of which a block of this GPU has " + std::to_string(there);
}

size_t retrieve_backward_workspace_size(const RetrieveCall& call) {
  return RetrieveBackward(call, {}, {}, nullptr).bytes;
}

std::string retrieve_backward(const RetrieveCall& call, const Gradients& gradients, const PartSizes& parts,
                              void* workspace, Stream stream) {
  if (call.rows() == 0) return {};
  const RetrieveBackward backward(call, gradients, parts, workspace);
  auto error =
      for_patterns(call, [&](auto number, auto width) { return run<decltype(number), width()>(backward, stream); });
  if (!error.empty() || (gradients.stored.data == nullptr && gradients.values.data == nullptr)) return error;
  return retrieve_backward_patterns(backward, stream);
}

}  // namespace hopfield::kernels::cuda
