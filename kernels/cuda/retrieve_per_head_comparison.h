#pragma once

// From the squared movements of single queries to the decision which heads stop.

#include <kernels/cuda/memory.h>
#include <kernels/cuda/retrieve_per_head_workspace.h>

namespace hopfield::kernels::cuda {

/// A block's part in the comparison of heads. A sample is one head of one batch element; its queries lie in one tile or
/// in several.
template <class T>
class Comparison {
 public:
  HOPFIELD_DEVICE Comparison(const PerHeadForward& s, const RetrieveSet& set, int64_t set_number, int64_t tile)
      : s_(s),
        set_(set),
        set_number_(set_number),
        tile_(tile),
        queries_(static_cast<int>(s.f.call.queries)),
        begin_(static_cast<int>(tile) * kPerHeadRows<T>),
        end_(s.f.sets.rows - begin_ < kPerHeadRows<T> ? static_cast<int>(s.f.sets.rows) : begin_ + kPerHeadRows<T>),
        first_(begin_ / queries_),
        last_((end_ - 1) / queries_) {}

  /// Adds up the rows of each sample in a fixed order, and offers the sum to the head, which takes the largest of the
  /// batch. Where a sample has several tiles, the block that finishes last adds up their sums.
  HOPFIELD_DEVICE void add_rows() const {
    const PerHeadShared<T> at(s_.f.call.exact_states);
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
    // Only the first and the last sample of a tile can reach into other tiles.
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

  /// In the last block of the launch that comes here: finds out which heads stop.
  HOPFIELD_DEVICE void finish() const {
    const auto& call = s_.f.call;
    int* is_last = shared_memory<int>(PerHeadShared<T>(call.exact_states).arrivals) + 2;
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
  HOPFIELD_DEVICE int first_tile(int sample) const { return sample * queries_ / kPerHeadRows<T>; }
  HOPFIELD_DEVICE int tiles_of(int sample) const {
    return ((sample + 1) * queries_ - 1) / kPerHeadRows<T> - first_tile(sample) + 1;
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

  const PerHeadForward& s_;
  const RetrieveSet& set_;
  const int64_t set_number_, tile_;
  const int queries_, begin_, end_;  ///< rows of the set
  const int first_, last_;           ///< samples of the set
};

}  // namespace hopfield::kernels::cuda
