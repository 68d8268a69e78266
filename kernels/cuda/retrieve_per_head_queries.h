#pragma once

// A warp's queries in one launch of the stop rule per_head: an association, and how it differs from the one before.

#include <kernels/cuda/retrieve_per_head_workspace.h>

namespace hopfield::kernels::cuda {

/// exp(x) - 1 to the precision of float32, also where x is small.
HOPFIELD_DEVICE float exp_minus_1(float x) {
  float series = 1.0f;
  HOPFIELD_UNROLL
  for (int i = 7; i > 1; --i) series = fused_multiply_add(x * (1.0f / static_cast<float>(i)), series, 1.0f);
  return x > -0.5f && x < 0.5f ? x * series : fast_exp2(x * kLog2e) - 1.0f;
}

/// A warp's queries in one launch, which makes association P_t and compares it with P_{t-1}.
///
/// The change comes out of the same sweep over the patterns, by one more product: that of the patterns with the
/// movement of the state, which gives the change of each score. Let a = P_{t-1}, found again from the score, its
/// change, and the log-sum that the launch before left. Let u = exp(change of the score - mean change under a) - 1.
/// Then
///
///     P_t - P_{t-1} = a (u - sum a u) / (1 + sum a u)
///
/// where only terms of second order cancel: residuals of float32 patterns keep six digits down to 1e-8, those of 16-bit
/// patterns two to three, since a movement is then one 16-bit number.
template <class T>
class PerHeadQueries : public QueryTile<T, kPerHeadWidth, kPerHeadKeys<T>> {
  using Base = QueryTile<T, kPerHeadWidth, kPerHeadKeys<T>>;
  using typename Base::Scores;
  static constexpr int kBandCount = kBands<T, kPerHeadWidth>, kPitch = kRetrievePitch<T, kPerHeadWidth>;

 public:
  using typename Base::Patterns;

  HOPFIELD_DEVICE PerHeadQueries(const PerHeadForward& s, const RetrieveSet& set, int64_t tile, Patterns& patterns)
      : Base(s.f, set, tile, patterns), s_(s) {
    const PerHeadShared<T> at(s.f.call.exact_states);
    const int first = warp_index() * kWarpRows<T, kPerHeadWidth>;
    moves_ = shared_memory<T>(at.moves) + first * kPitch;
    squares_ = shared_memory<float>(at.squares) + first;
    if (lane_index() < kWarpRows<T, kPerHeadWidth> && this->places_[lane_index()].exists) {
      const auto head = progress_of(s, this->places_[lane_index()].head);
      auto& progress = this->progress_[lane_index()];
      progress.frozen = head.stopped != 0;
      progress.steps = progress.frozen ? head.steps : s.step;
      progress.residual = head.residual;
    }
    sync_warp();
    compares_ =
        any(lane_index() < kWarpRows<T, kPerHeadWidth> && compares_row(lane_index() % kWarpRows<T, kPerHeadWidth>));
  }

  /// Whether one of the warp's queries belongs to a head that has not stopped. Called by all lanes.
  HOPFIELD_DEVICE bool any_active() const {
    return any(lane_index() < kWarpRows<T, kPerHeadWidth> &&
               !this->progress_[lane_index() % kWarpRows<T, kPerHeadWidth>].frozen);
  }

  /// Brings the states to shared memory as queries, and by how much they have moved.
  HOPFIELD_DEVICE void load() {
    const auto& call = s_.f.call;
    for_rows<kBandCount>([&](int band, int half, int row) {
      const auto place = this->places_[row];
      const bool compares = compares_row(row);
      const float* before = states_after(s_.step + 1) + place.row * call.depth;
      float* states = states_after(this->progress_[row].steps) + place.row * call.depth;
      const T* from = place.template in<T>(call.state);
      const float scale = move_scale(states, before, compares);
      float expected = 0.0f;
      constexpr int kAtOnce = 8;  // loads that are under way at a time
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

  /// Makes the association, and leaves in squares_ the squared norm by which each query's has changed.
  HOPFIELD_DEVICE void associate_and_compare(bool last) {
    this->associate(last, [&](const Scores& scores, const T* tile) {
      if (compares_) compare(scores, tile);
    });
    for_rows<kBandCount>([&](int band, int half, int row) {
      // The square of the formula above, summed over the keys. With rounding, the sum of a is not 1 but sums[0].
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

  /// Writes the next states. The launch after this one uses them if the comparison lets the heads go on.
  HOPFIELD_DEVICE void propose() const {
    const auto& call = s_.f.call;
    for_rows<kBandCount>([&](int band, int half, int row) {
      const auto place = this->places_[row];
      const auto progress = this->progress_[row];
      if (progress.frozen) return;
      this->save_sums(place, s_.step, band, half);
      if (lane_index() % 4 == 0) s_.work.log_sums[place.row] = log_sum(band, half);
      if (s_.step >= progress.steps_max) return;  // its last association is made for the comparison alone
      const bool gone = this->dead(band, half);
      const float scale = gone ? 0.0f : 1.0f / this->sum_[band][half];
      const float* states = states_after(s_.step) + place.row * call.depth;
      float* next = states_after(s_.step + 1) + place.row * call.depth;
      HOPFIELD_UNROLL
      for (int i = 0; i < kPerHeadWidth / 4; ++i) {
        const int k = column_of_lane(i / 2) + i % 2;
        if (k >= call.depth) continue;
        const float value = gone ? states[k] : this->sums_[band][i / 2][2 * half + i % 2] * scale;
        next[k] = value;
        this->save_state(s_.step, place.row, k, value);
      }
    });
  }

  /// Writes the results but for the residuals: those of heads that stop in this launch are not known yet.
  HOPFIELD_DEVICE void write_read_out() const {
    for_rows<kBandCount>([&](int band, int half, int row) {
      if (lane_index() % 4 == 0 && this->dead(band, half)) this->progress_[row].steps = 0;
    });
    sync_warp();
    this->write_results(
        [&](int row) { return states_after(this->progress_[row].steps) + this->places_[row].row * s_.f.call.depth; });
  }

 private:
  /// The states after `step` updates.
  HOPFIELD_DEVICE float* states_after(int64_t step) const { return s_.f.state(step % 2 * s_.f.call.rows()); }

  /// Whether the change of the row's association is wanted. Without a threshold it is that of the last update alone.
  HOPFIELD_DEVICE bool compares_row(int row) const {
    const auto& progress = this->progress_[row];
    return s_.step > 0 && !progress.frozen && (progress.eps > 0.0f || s_.step >= progress.steps_max);
  }

  HOPFIELD_DEVICE float log_sum(int band, int half) const {
    return this->largest_[band][half] + fast_log2(this->sum_[band][half]);
  }

  /// A power of two that a row's movement is multiplied by, so that float16 does not lose its digits or flush it to 0.
  /// The other types have the exponents of float32.
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

  /// Adds a tile's keys to the sums that the change is made of.
  /// @param scores  of the tile, in units of log 2
  HOPFIELD_DEVICE void compare(const Scores& scores, const T* tile) {
    Scores products = {};
    multiply_rows<T, kPerHeadWidth>(products, moves_, 0, tile, this->depth_, s_.f.call.plain_float32);
    for_rows<kBandCount>([&](int band, int half, int) {
      auto& sums = sums_of_change_[band][half];
      HOPFIELD_UNROLL
      for (int i = 0; i < kPerHeadKeys<T> / 4; ++i) {
        const float score = scores[band][i / 2][2 * half + i % 2];
        const float change = products[band][i / 2][2 * half + i % 2] * beta_of_move_[band][half];
        const float shifted = change - expected_[band][half];
        const bool excluded = score == minus_infinity();
        // At most 40, so that the square of exp(40) is still a finite float.
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

  const PerHeadForward& s_;
  bool compares_;  ///< the change of one of the rows is wanted
  // Of the warp, in shared memory.
  T* moves_;
  float* squares_;
  // Of the lane's rows. The sums over the keys are of a, a u, a^2, a^2 u and a^2 u^2.
  float beta_of_move_[kBandCount][2] = {}, expected_[kBandCount][2] = {}, log_sum_before_[kBandCount][2] = {};
  float sums_of_change_[kBandCount][2][5] = {};
};

}  // namespace hopfield::kernels::cuda
