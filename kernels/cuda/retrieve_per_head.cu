#include <kernels/cuda/launch.h>
#include <kernels/cuda/retrieve_dispatch.h>
#include <kernels/cuda/retrieve_per_head.h>
#include <kernels/cuda/retrieve_queries.h>

namespace hopfield::kernels::cuda {
namespace {

/// Room for all widths: few kernels to compile. Half as many float32 patterns at once as elsewhere leave registers and
/// shared memory to what is compared.
constexpr int kRoom = 256;
template <class T>
constexpr int kKeys = kIsFloat<T> ? 16 : 32;
template <class T>
constexpr int kRows = kRetrieveWarps* kWarpRows<T, kRoom>;

/// How far a head has come.
struct HeadProgress {
  uint32_t stopped = 0, steps = 0;  ///< steps: once it has stopped
  float residual = bits_float(0x7FC00000u);
  uint32_t largest = 0;  ///< bits of the largest square over the batch, so far in this launch
};

/// Device memory of a call. A sample is a head of a batch element; a tile of queries may belong to several, and a
/// sample to several tiles.
struct HeadWorkspace {
  uint32_t* tickets;         ///< of the launch's blocks
  uint32_t* going_on;        ///< heads that have not stopped
  uint32_t* sample_tickets;  ///< of the tiles of a sample [sets, samples of a set]
  HeadProgress* heads;       ///< [heads]
  float* parts;     ///< a tile's share of a sample's square, at the sum of their numbers [sets, samples + tiles]
  float* log_sums;  ///< of the association before, in units of log 2 [rows]
};

/// Everything the kernels get.
struct HeadSteps {
  RetrieveForward f;
  HeadWorkspace work;
  int64_t samples;  ///< of a set
  int64_t step;     ///< updates made before this launch
};

/// Cuts a workspace; `memory` null: only counts. Returns its size.
size_t cut(const HeadSteps& s, void* memory, HeadWorkspace& work) {
  size_t size = 0;
  const auto take = [&](auto*& part, int64_t count) {
    part = memory == nullptr
               ? nullptr
               : reinterpret_cast<std::remove_reference_t<decltype(part)>>(static_cast<unsigned char*>(memory) + size);
    size += (static_cast<size_t>(count) * sizeof(*part) + 15) / 16 * 16;
  };
  const auto& sets = s.f.sets;
  take(work.tickets, 1);
  take(work.going_on, 1);
  take(work.sample_tickets, sets.sets * s.samples);
  take(work.heads, s.f.call.heads);
  take(work.parts, sets.sets * (s.samples + sets.tiles));
  take(work.log_sums, sets.sets * sets.rows);
  return size;
}

/// Shared memory of a block, in bytes from its beginning: behind that of all queries the movements of states.
template <class T>
struct HeadShared {
  int moves, squares, arrivals, total;

  HOPFIELD_DEVICE constexpr explicit HeadShared(bool exact_states)
      : moves((QueryShared<T, kRoom, kKeys<T>>(exact_states).total + 127) / 128 * 128),
        squares(moves + kRows<T> * kRetrievePitch<T, kRoom> * static_cast<int>(sizeof(T))),
        arrivals(squares + kRows<T> * 4),
        total(arrivals + 4 * 4) {}
};

HOPFIELD_DEVICE HeadProgress progress_of(const HeadSteps& s, int head) {
  if (s.step > 0) return s.work.heads[head];
  HeadProgress progress;
  progress.stopped = s.f.call.steps_max[head] <= 0 ? 1 : 0;
  return progress;
}

/// exp(x) - 1, with a float's digits.
HOPFIELD_DEVICE float exp_minus_1(float x) {
  float series = 1.0f;
  HOPFIELD_UNROLL
  for (int i = 7; i > 1; --i) series = fused_multiply_add(x * (1.0f / static_cast<float>(i)), series, 1.0f);
  return x > -0.5f && x < 0.5f ? x * series : fast_exp2(x * kLog2e) - 1.0f;
}

/// A warp's queries in one of the launches.
template <class T>
class HeadQueries : public QueryTile<T, kRoom, kKeys<T>> {
  using Base = QueryTile<T, kRoom, kKeys<T>>;
  using typename Base::Scores;
  static constexpr int kBandCount = kBands<T, kRoom>, kPitch = kRetrievePitch<T, kRoom>;

 public:
  using typename Base::Patterns;

  HOPFIELD_DEVICE HeadQueries(const HeadSteps& s, const RetrieveSet& set, int64_t tile, Patterns& patterns)
      : Base(s.f, set, tile, patterns), s_(s) {
    const HeadShared<T> at(s.f.call.exact_states);
    const int first = warp_index() * kWarpRows<T, kRoom>;
    moves_ = shared_memory<T>(at.moves) + first * kPitch;
    squares_ = shared_memory<float>(at.squares) + first;
    if (lane_index() < kWarpRows<T, kRoom> && this->places_[lane_index()].exists) {
      const auto head = progress_of(s, this->places_[lane_index()].head);
      auto& progress = this->progress_[lane_index()];
      progress.frozen = head.stopped != 0;
      progress.steps = progress.frozen ? head.steps : s.step;
      progress.residual = head.residual;
    }
    sync_warp();
    compares_ = any(lane_index() < kWarpRows<T, kRoom> && compares_row(lane_index() % kWarpRows<T, kRoom>));
  }

  /// Whether the head of one of the rows has not stopped. All lanes.
  HOPFIELD_DEVICE bool any_active() const {
    return any(lane_index() < kWarpRows<T, kRoom> && !this->progress_[lane_index() % kWarpRows<T, kRoom>].frozen);
  }

  /// Takes the queries to shared memory, and how they have moved.
  HOPFIELD_DEVICE void load() {
    const auto& call = s_.f.call;
    for_rows<kBandCount>([&](int band, int half, int row) {
      const auto place = this->places_[row];
      const bool compares = compares_row(row);
      const float* before = plane(s_.step + 1) + place.row * call.depth;
      float* states = plane(this->progress_[row].steps) + place.row * call.depth;
      const T* from = place.template in<T>(call.state);
      const float scale = move_scale(states, before, compares);
      float expected = 0.0f;
      constexpr int kAtOnce = 8;  // on their way together
      for (int first = 0; first < this->depth_ / 4; first += kAtOnce) {
        float now[kAtOnce], earlier[kAtOnce];
        HOPFIELD_UNROLL
        for (int i = 0; i < kAtOnce; ++i) {
          const int k = column_of_lane((first + i) / 2) + i % 2;
          const bool taken = place.exists && k < call.depth;
          now[i] = !taken ? 0.0f : s_.step == 0 ? to_float(from[k]) : states[k];
          earlier[i] = compares && taken ? before[k] : now[i];
        }
        HOPFIELD_UNROLL
        for (int i = 0; i < kAtOnce; ++i) {
          const int k = column_of_lane((first + i) / 2) + i % 2;
          const T move = from_float<T>((now[i] - earlier[i]) * scale);
          if (s_.step == 0 && place.exists && k < call.depth) states[k] = now[i];
          this->put_query(row, k, now[i]);
          moves_[row * kPitch + k] = move;
          expected = fused_multiply_add(to_float(move), now[i], expected);
        }
      }
      beta_of_move_[band][half] = this->beta_[band][half] / scale;
      expected_[band][half] = quad_sum(expected) * beta_of_move_[band][half];
      log_sum_before_[band][half] = compares ? s_.work.log_sums[place.row] : 0.0f;
    });
    sync_warp();
  }

  /// One association; what it is compared with is the one before. Leaves each row's square of the difference.
  HOPFIELD_DEVICE void associate_and_compare(bool last) {
    this->associate(last, [&](const Scores& scores, const T* tile) {
      if (compares_) compare(scores, tile);
    });
    for_rows<kBandCount>([&](int band, int half, int row) {
      // P_t = a (1 + u) / sum(a (1 + u)), and its difference from a / sum(a), squared and written out.
      auto& sums = sums_of_change_[band][half];
      HOPFIELD_UNROLL
      for (float& sum : sums) sum = quad_sum(sum);
      const float mean = sums[1] / sums[0], scale = 1.0f / (sums[0] + sums[1]);
      const float square = (sums[4] - mean * (2.0f * sums[3] - mean * sums[2])) * scale * scale;
      // A row that is not a number must not stop the others of its head.
      const bool counts = compares_row(row) && square > 0.0f && square < bits_float(0x7F800000u);
      if (lane_index() % 4 == 0) squares_[row] = counts ? square : 0.0f;
    });
  }

  /// Leaves where the states go if their heads go on.
  HOPFIELD_DEVICE void propose() const {
    const auto& call = s_.f.call;
    for_rows<kBandCount>([&](int band, int half, int row) {
      const auto place = this->places_[row];
      const auto progress = this->progress_[row];
      if (progress.frozen) return;
      this->save_sums(place, s_.step, band, half);
      if (lane_index() % 4 == 0) s_.work.log_sums[place.row] = log_sum(band, half);
      if (s_.step >= progress.steps_max) return;  // this was to be compared
      const bool gone = this->dead(band, half);
      const float scale = gone ? 0.0f : 1.0f / this->sum_[band][half];
      const float* states = plane(s_.step) + place.row * call.depth;
      float* next = plane(s_.step + 1) + place.row * call.depth;
      HOPFIELD_UNROLL
      for (int i = 0; i < kRoom / 4; ++i) {
        const int k = column_of_lane(i / 2) + i % 2;
        if (k >= call.depth) continue;
        const float value = gone ? states[k] : this->sums_[band][i / 2][2 * half + i % 2] * scale;
        next[k] = value;
        this->save_state(s_.step, place.row, k, value);
      }
    });
  }

  /// What was read out. Residuals of heads that have not stopped before are still to come.
  HOPFIELD_DEVICE void write_read_out() const {
    for_rows<kBandCount>([&](int band, int half, int row) {
      if (lane_index() % 4 == 0 && this->dead(band, half)) this->progress_[row].steps = 0;
    });
    sync_warp();
    this->write_results(
        [&](int row) { return plane(this->progress_[row].steps) + this->places_[row].row * s_.f.call.depth; });
  }

 private:
  /// Of the states after `step` updates.
  HOPFIELD_DEVICE float* plane(int64_t step) const {
    return s_.f.out.states + step % 2 * this->all_rows() * s_.f.call.depth;
  }

  /// Whether somebody wants to know how the row's association has changed: without threshold at the end alone.
  HOPFIELD_DEVICE bool compares_row(int row) const {
    const auto& progress = this->progress_[row];
    return s_.step > 0 && !progress.frozen && (progress.eps > 0.0f || s_.step >= progress.steps_max);
  }

  HOPFIELD_DEVICE float log_sum(int band, int half) const {
    return this->largest_[band][half] + fast_log2(this->sum_[band][half]);
  }

  /// A power of two that brings a row's movement to where the type has all its digits; 1 but for float16.
  HOPFIELD_DEVICE float move_scale(const float* states, const float* before, bool compares) const {
    if constexpr (!std::is_same_v<T, float16_t>) return 1.0f;
    float largest = 0.0f;
    HOPFIELD_UNROLL_BY(8)
    for (int i = 0; i < this->depth_ / 4; ++i) {
      const int k = column_of_lane(i / 2) + i % 2;
      if (!compares || k >= s_.f.call.depth) continue;
      const float move = states[k] - before[k], size = move < 0.0f ? -move : move;
      largest = largest < size ? size : largest;
    }
    const uint32_t exponent = float_bits(quad_max(largest)) >> 23;
    return exponent > 0 && exponent < 254 ? bits_float((254 - exponent) << 23) : 1.0f;
  }

  /// The sums of the square of P_t - P_{t-1}, see kernels/README.md.
  HOPFIELD_DEVICE void compare(const Scores& scores, const T* tile) {
    Scores products = {};
    multiply_rows<T, kRoom>(products, moves_, 0, tile, this->depth_, s_.f.call.plain_float32);
    for_rows<kBandCount>([&](int band, int half, int) {
      auto& sums = sums_of_change_[band][half];
      HOPFIELD_UNROLL
      for (int i = 0; i < kKeys<T> / 4; ++i) {
        const float score = scores[band][i / 2][2 * half + i % 2];
        const float change = products[band][i / 2][2 * half + i % 2] * beta_of_move_[band][half];
        const float shifted = change - expected_[band][half];
        const bool excluded = score == minus_infinity();
        // Up to 40: exp(2 * 40) is a float still.
        const float u = excluded ? 0.0f : exp_minus_1(shifted > 40.0f ? 40.0f : shifted);
        const float a =
            excluded ? 0.0f : fast_exp2(fused_multiply_add(change, -kLog2e, score) - log_sum_before_[band][half]);
        const float au = a * u;
        sums[0] += a;
        sums[1] += au;
        sums[2] = fused_multiply_add(a, a, sums[2]);
        sums[3] = fused_multiply_add(a, au, sums[3]);
        sums[4] = fused_multiply_add(au, au, sums[4]);
      }
    });
  }

  const HeadSteps& s_;
  bool compares_;  ///< one of the rows
  // Of the warp, in shared memory.
  T* moves_;
  float* squares_;
  // Of the lane's rows. a = P_{t-1}, u = exp(change of the score - its mean under a) - 1; the sums: a, 1 but for
  // rounding, a u, a^2, a^2 u, a^2 u^2.
  float beta_of_move_[kBandCount][2] = {}, expected_[kBandCount][2] = {}, log_sum_before_[kBandCount][2] = {};
  float sums_of_change_[kBandCount][2][5] = {};
};

/// The squares of a tile's rows on their way to their heads.
template <class T>
class Comparison {
 public:
  HOPFIELD_DEVICE Comparison(const HeadSteps& s, const RetrieveSet& set, int64_t set_number, int64_t tile)
      : s_(s),
        set_(set),
        set_number_(set_number),
        tile_(tile),
        queries_(static_cast<int>(s.f.call.queries)),
        begin_(static_cast<int>(tile) * kRows<T>),
        end_(s.f.sets.rows - begin_ < kRows<T> ? static_cast<int>(s.f.sets.rows) : begin_ + kRows<T>),
        first_(begin_ / queries_),
        last_((end_ - 1) / queries_) {}

  /// Adds up the rows of each sample, always in the same order. A sample of several tiles is merged by the last of
  /// them.
  HOPFIELD_DEVICE void add_rows() const {
    const HeadShared<T> at(s_.f.call.exact_states);
    const float* squares = shared_memory<float>(at.squares);
    int* arrivals = shared_memory<int>(at.arrivals);
    sync_threads();
    for (int sample = first_ + warp_index(); sample <= last_; sample += kRetrieveWarps) {
      if (head_of(sample).stopped != 0) continue;
      const int begin = sample * queries_ > begin_ ? sample * queries_ : begin_;
      const int end = (sample + 1) * queries_ < end_ ? (sample + 1) * queries_ : end_;
      float sum = 0.0f;
      for (int row = begin + lane_index(); row < end; row += 32) sum += squares[row - begin_];
      sum = warp_sum(sum);
      if (lane_index() != 0) continue;
      if (tiles_of(sample) == 1) {
        offer(sample, sum);
      } else {
        store_fresh(parts() + sample + tile_, sum);
      }
    }
    sync_threads();
    // Those in the middle are in this tile alone.
    if (thread_index() == 0) {
      arrivals[0] = is_last_of(first_);
      arrivals[1] = last_ > first_ && is_last_of(last_);
    }
    sync_threads();
    if (warp_index() < 2 && arrivals[warp_index()] != 0) {
      const int sample = warp_index() == 0 ? first_ : last_, first = first_tile(sample), tiles = tiles_of(sample);
      float sum = 0.0f;
      for (int i = lane_index(); i < tiles; i += 32) sum += load_fresh(parts() + sample + first + i);
      sum = warp_sum(sum);
      if (lane_index() == 0) offer(sample, sum);
    }
  }

  /// The last block of the launch looks which heads have stopped.
  HOPFIELD_DEVICE void finish() const {
    const auto& call = s_.f.call;
    int* is_last = shared_memory<int>(HeadShared<T>(call.exact_states).arrivals) + 2;
    sync_threads();
    if (thread_index() == 0) {
      *is_last = take_ticket(s_.work.tickets) == static_cast<uint32_t>(grid_size().x) - 1;
      if (*is_last != 0) store_fresh(s_.work.tickets, 0u);
    }
    sync_threads();
    if (*is_last == 0) return;
    for (int64_t h = thread_index(); h < call.heads; h += block_size()) {
      auto& head = s_.work.heads[h];
      if (head.stopped != 0) continue;
      const float square = bits_float(load_fresh(&head.largest)), eps = call.eps[h];
      head.residual = square > 0.0f ? 1.0f / fast_rsqrt(square) : square;
      store_fresh(&head.largest, 0u);
      const bool changes = head.residual > eps && head.residual < bits_float(0x7F800000u);
      if (s_.step < call.steps_max[h] && (eps <= 0.0f || changes)) continue;
      head.stopped = 1;
      head.steps = static_cast<uint32_t>(s_.step);
      atomic_add(s_.work.going_on, ~0u);
    }
  }

 private:
  HOPFIELD_DEVICE int first_tile(int sample) const { return sample * queries_ / kRows<T>; }
  HOPFIELD_DEVICE int tiles_of(int sample) const {
    return ((sample + 1) * queries_ - 1) / kRows<T> - first_tile(sample) + 1;
  }
  HOPFIELD_DEVICE HeadProgress& head_of(int sample) const {
    const auto heads = s_.f.sets.all_heads ? static_cast<int>(s_.f.call.heads) : 1;
    return s_.work.heads[set_.head + sample % heads];
  }
  HOPFIELD_DEVICE float* parts() const { return s_.work.parts + set_number_ * (s_.samples + s_.f.sets.tiles); }

  HOPFIELD_DEVICE void offer(int sample, float square) const {
    atomic_max(&head_of(sample).largest, float_bits(square));
  }

  HOPFIELD_DEVICE bool is_last_of(int sample) const {
    const int tiles = tiles_of(sample);
    if (tiles == 1 || head_of(sample).stopped != 0) return false;
    auto* ticket = s_.work.sample_tickets + set_number_ * s_.samples + sample;
    if (take_ticket(ticket) != static_cast<uint32_t>(tiles) - 1) return false;
    store_fresh(ticket, 0u);
    return true;
  }

  const HeadSteps& s_;
  const RetrieveSet& set_;
  const int64_t set_number_, tile_;
  const int queries_, begin_, end_;  ///< rows of the set
  const int first_, last_;           ///< samples of the set
};

/// By all blocks of the first launch: what later ones count in.
HOPFIELD_DEVICE void clear_workspace(const HeadSteps& s) {
  const int64_t first = static_cast<int64_t>(block_index().x) * block_size() + thread_index(),
                threads = static_cast<int64_t>(grid_size().x) * block_size();
  for (int64_t h = first; h < s.f.call.heads; h += threads) s.work.heads[h] = progress_of(s, static_cast<int>(h));
  for (int64_t i = first; i < s.f.sets.sets * s.samples; i += threads) s.work.sample_tickets[i] = 0;
  if (first != 0) return;
  *s.work.tickets = 0;
  uint32_t going_on = 0;
  for (int64_t h = 0; h < s.f.call.heads; ++h) going_on += s.f.call.steps_max[h] > 0 ? 1 : 0;
  *s.work.going_on = going_on;
}

/// One association, compared with the one before; the last one reads out. States have two planes: a launch reads the
/// states that it is at and those before, and leaves the next ones in place of these.
template <class T>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kRetrieveThreads, 1) retrieve_head_step(HeadSteps s) {
  const auto& f = s.f;
  const bool last = s.step == f.call.most_steps;
  if (s.step == 0) clear_workspace(s);
  if (s.step > 0 && !last && *s.work.going_on == 0) return;
  const QueryShared<T, kRoom, kKeys<T>> at(f.call.exact_states);
  const int64_t tile = block_index().x % f.sets.tiles, set_number = block_index().x / f.sets.tiles;
  const RetrieveSet set(f.call, f.sets, set_number);
  typename HeadQueries<T>::Patterns patterns(f.call, set, shared_memory<T>(at.patterns));
  HeadQueries<T> work(s, set, tile, patterns);
  int* votes = shared_memory<int>(at.votes);
  const bool goes_on = work.any_active();
  if (lane_index() == 0) votes[warp_index()] = goes_on ? 1 : 0;
  sync_threads();
  bool wanted = last || s.step == 0;  // the first takes all states along
  for (int warp = 0; warp < kRetrieveWarps; ++warp) wanted = wanted || votes[warp] != 0;
  if (wanted) {
    work.load();
    patterns.begin({0, last ? 1 : 0, false});
    work.associate_and_compare(last);
    if (last) {
      work.write_read_out();
    } else {
      work.propose();
    }
  }
  if (s.step == 0) return;
  const Comparison<T> comparison(s, set, set_number, tile);
  if (wanted) comparison.add_rows();
  comparison.finish();
}

/// What heads found in the last launch, for their rows.
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kRetrieveThreads, 1) write_head_residuals(HeadSteps s) {
  const auto& call = s.f.call;
  const auto& out = s.f.out;
  const int64_t row = static_cast<int64_t>(block_index().x) * block_size() + thread_index();
  if (row >= s.f.sets.sets * s.f.sets.rows) return;
  const auto head =
      static_cast<uint32_t>(row) / static_cast<uint32_t>(call.queries) % static_cast<uint32_t>(call.heads);
  const bool dead = out.logsumexp[row] == minus_infinity();
  const float residual = dead ? 0.0f : s.work.heads[head].residual;
  out.residual[row] = residual;
  out.converged[row] = dead || residual <= call.eps[head];
}

/// Calls `run(PatternsOf<..>())` for the type of the call's patterns; returns what it returns.
template <class Run>
auto for_type(const RetrieveCall& call, const Run& run) {
  switch (call.type) {
    case ElementType::bfloat16:
      return run(PatternsOf<bfloat16_t, kRoom>());
    case ElementType::float16:
      return run(PatternsOf<float16_t, kRoom>());
    default:
      return run(PatternsOf<float, kRoom>());
  }
}

HeadSteps head_steps(const RetrieveCall& call, const RetrieveOutputs& outputs, int64_t tile_rows) {
  HeadSteps s{{call, outputs, retrieve_sets(call, tile_rows), retrieve_saved_row(call)}, {}, 0, 0};
  s.samples = s.f.sets.rows / call.queries;
  cut(s, outputs.workspace, s.work);
  return s;
}

}  // namespace

size_t retrieve_head_steps_shared_bytes(const RetrieveCall& call) {
  return for_type(call, [&](auto patterns) {
    return static_cast<size_t>(HeadShared<typename decltype(patterns)::Type>(call.exact_states).total);
  });
}

size_t retrieve_workspace_size(const RetrieveCall& call) {
  if (!takes_head_steps(call) || call.batch * call.heads * call.queries == 0) return 0;
  return for_type(call, [&](auto patterns) {
    auto s = head_steps(call, {}, kRows<typename decltype(patterns)::Type>);
    return cut(s, nullptr, s.work);
  });
}

std::string retrieve_head_steps(const RetrieveCall& call, const RetrieveOutputs& outputs, Stream stream) {
  return for_type(call, [&](auto patterns) {
    using T = typename decltype(patterns)::Type;
    auto s = head_steps(call, outputs, kRows<T>);
    const auto blocks = s.f.sets.sets * s.f.sets.tiles, rows = s.f.sets.sets * s.f.sets.rows;
    const LaunchShape shape{{blocks, 1, 1}, kRetrieveThreads, retrieve_head_steps_shared_bytes(call)};
    for (; s.step <= call.most_steps; ++s.step) {
      auto error = launch(retrieve_head_step<T>, shape, stream, s);
      if (!error.empty()) return error;
    }
    return launch(write_head_residuals, {{(rows + kRetrieveThreads - 1) / kRetrieveThreads, 1, 1}, kRetrieveThreads},
                  stream, s);
  });
}

}  // namespace hopfield::kernels::cuda
