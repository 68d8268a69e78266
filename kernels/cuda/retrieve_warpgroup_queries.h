#pragma once

// A warpgroup's queries: associations with all patterns of their set, and the updates that follow them.

#include <kernels/cuda/memory.h>
#include <kernels/cuda/retrieve_warpgroup_tile.h>

namespace hopfield::kernels::cuda {

struct alignas(8) TwoFloats {
  float values[2];
};

/// The 64 queries of a warpgroup, 16 to a warp. With g = lane / 4, a lane has the rows g and g + 8 of its warp's 16 in
/// all fragments.
template <int padded_width>
class QueryGroup {
 public:
  using Shared = WarpgroupShared<padded_width>;

  HOPFIELD_DEVICE QueryGroup(const WarpgroupForward& f, const Shared& shared, int group)
      : f_(f), shared_(shared), tiles_(shared), barrier_(1 + group), queries_(shared.queries(group)) {}

  /// Copies the queries of the set from row `first` on to shared memory.
  HOPFIELD_DEVICE void load(const RetrieveSet& set, int64_t first) {
    const auto& call = f_.call;
    HOPFIELD_UNROLL
    for (int r = 0; r < 2; ++r) {
      auto& row = rows_[r];
      const auto place = set.query(call, f_.sets, first + own_row(r));
      if (place.exists) {
        row.row = place.row;
        row.steps_max = static_cast<int>(call.steps_max[place.head]);
        row.set_beta(call.beta[place.head]);
      }
      const auto* from = place.template in<bfloat16_t>(call.state);
      for (int k = 8 * (lane_index() % 4); k < padded_width; k += 32) {
        Pack<bfloat16_t> query{};
        if (place.exists && k < call.depth) query = load_pack(from + k);
        for (int i = 0; i < 8; ++i) {
          // move() writes the float32 state from the last update but one on. Where there is none, it is this one.
          if (place.exists && k < call.depth && row.steps_max <= 1) {
            f_.state(place.row)[k + i] = to_float(query[i]);
          }
          query[i].bits ^= static_cast<uint16_t>(row.signs());
        }
        store_pack(reinterpret_cast<bfloat16_t*>(query_piece(r, k / 8)), query);
      }
    }
    show_queries();
  }

  /// Associates the queries with all tiles. sums_ are then those of the weighted stored patterns, or if `last` of the
  /// values.
  ///
  /// Products for the scores of one tile and for the sum over the tile before are under way at the same time, so that
  /// the tensor cores work on the sum while the threads turn the scores into weights. The weights of one tile (16 bits)
  /// and the scores of the next one (32 bits) are in registers together.
  HOPFIELD_DEVICE void associate(bool last) {
    HOPFIELD_UNROLL
    for (auto& row : rows_) {
      row.largest = minus_infinity();
      row.sum = 0.0f;
    }
    const bool values = last && f_.call.values.data != nullptr;
    const int keys = static_cast<int>(f_.call.keys);
    GroupScores<padded_width> scores;
    GroupWeights<padded_width> weights;
    float factors[2];
    int patterns = tiles_.bring();
    hold_registers(scores);
    fence_products();
    start_scores<padded_width>(scores, queries_, shared_.tile(patterns));
    wait_products<0>();
    hold_registers(scores);
    if (values) tiles_.release(patterns);
    if (keys < Shared::kKeys) exclude_from(scores, keys);
    find_weights(scores, rows_, factors);
    pack_weights(weights, scores);
    for (int first = Shared::kKeys; first < keys; first += Shared::kKeys) {
      const int summed = values ? tiles_.bring() : patterns;
      patterns = tiles_.bring();
      hold_registers(scores);
      hold_registers(weights);
      hold_registers(sums_);
      fence_products();
      start_scores<padded_width>(scores, queries_, shared_.tile(patterns));
      start_sums<padded_width>(sums_, weights, shared_.tile(summed), first > Shared::kKeys);
      wait_products<1>();
      hold_registers(scores);
      if (values) tiles_.release(patterns);
      if (keys - first < Shared::kKeys) exclude_from(scores, keys - first);
      find_weights(scores, rows_, factors);
      hold_registers(scores);  // the compiler must find the weights before the wait, not behind it
      wait_products<0>();
      hold_registers(weights);
      hold_registers(sums_);
      tiles_.release(summed);
      scale_sums(sums_, factors);
      pack_weights(weights, scores);
    }
    const int summed = values ? tiles_.bring() : patterns;
    hold_registers(weights);
    hold_registers(sums_);
    fence_products();
    start_sums<padded_width>(sums_, weights, shared_.tile(summed), keys > Shared::kKeys);
    wait_products<0>();
    hold_registers(sums_);
    tiles_.release(summed);
    for (auto& row : rows_) row.sum = quad_sum(row.sum);
  }

  /// Moves the states to the means that update `step` found.
  HOPFIELD_DEVICE void update(int step) {
    sync_barrier(barrier_, kWarpgroup);  // the other warps' products with the states before have ended
    HOPFIELD_UNROLL
    for (int r = 0; r < 2; ++r) {
      auto& row = rows_[r];
      if (!row.active(step)) continue;
      save_sums(row, step);
      if (!row.dead()) move(r, step);
    }
    HOPFIELD_UNROLL
    for (auto& row : rows_) {
      const float squares = quad_sum(row.residual);
      if (row.active(step) && step + 1 == row.steps_max) {
        row.residual = row.dead() ? 0.0f : squares > 0.0f ? 1.0f / fast_rsqrt(squares) : squares;
      }
    }
    show_queries();
  }

  HOPFIELD_DEVICE void write_results() const {
    const auto& out = f_.out;
    HOPFIELD_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto& row = rows_[r];
      if (!row.exists()) continue;
      const auto place = place_of(row.row);
      write_output(r, place);
      write_state(r, place);
      if (lane_index() % 4 != 0) continue;
      save_sums(row, static_cast<int>(f_.call.most_steps));
      const bool dead = row.dead();
      const float residual = dead ? 0.0f : row.residual;
      out.logsumexp[row.row] = dead ? minus_infinity() : (row.largest_score() + fast_log2(row.sum)) / kLog2e;
      out.residual[row.row] = residual;
      out.steps[row.row] = row.steps;
      out.converged[row.row] = residual <= f_.call.eps[place.head];
    }
  }

 private:
  HOPFIELD_DEVICE static int own_row(int r) { return warp_index() % 4 * 16 + lane_index() / 4 + 8 * r; }
  /// The first two features of a row that belong to the lane, of its eighth t the pair 4 t. The width is a multiple of
  /// eight.
  template <class Pair>
  HOPFIELD_DEVICE static Pair* own_pairs(void* row) {
    return static_cast<Pair*>(row) + lane_index() % 4;
  }
  HOPFIELD_DEVICE TwoFloats* state_pairs(int64_t row) const { return own_pairs<TwoFloats>(f_.state(row)); }
  /// Found again from the row's number, which takes fewer registers than to keep it.
  HOPFIELD_DEVICE QueryPlace place_of(int64_t row) const {
    const auto number = static_cast<uint32_t>(row), queries = static_cast<uint32_t>(f_.call.queries),
               heads = static_cast<uint32_t>(f_.call.heads);
    return query_place(f_.call, static_cast<int>(number / queries / heads), static_cast<int>(number / queries % heads),
                       static_cast<int>(number % queries));
  }

  /// Piece t of a lane's row r, 16 bytes. The order of pieces is the same in both of its rows.
  HOPFIELD_DEVICE unsigned char* query_piece(int r, int t) const {
    return queries_ + own_row(r) * kTileRowBytes + swizzled_piece(own_row(0), t % 8) * 16 + t / 8 * Shared::kQueryPiece;
  }
  HOPFIELD_DEVICE uint32_t* query_pair(int r, int t) const {
    return reinterpret_cast<uint32_t*>(query_piece(r, t)) + lane_index() % 4;
  }
  /// Makes the queries that the threads of the warpgroup wrote visible to its next products.
  HOPFIELD_DEVICE void show_queries() const {
    fence_async_proxy();
    sync_warp();  // lanes took different branches, but have to start products together
    sync_barrier(barrier_, kWarpgroup);
  }

  HOPFIELD_DEVICE static uint32_t rounded(const TwoFloats& two) {
    return pack_pair<bfloat16_t>(two.values[0], two.values[1]);
  }

  /// Where a lane's features of a row's state after update `step` are saved; null where they are not.
  HOPFIELD_DEVICE uint32_t* saved_pairs(int64_t row, int step) const {
    auto* states = static_cast<bfloat16_t*>(f_.out.saved.states);
    return states == nullptr ? nullptr : own_pairs<uint32_t>(states + f_.saved_state(row, step));
  }
  HOPFIELD_DEVICE void save_sums(const GroupRow& row, int step) const {
    if (f_.out.saved.sums == nullptr || lane_index() % 4 != 0) return;
    *reinterpret_cast<TwoFloats*>(f_.saved_sums(row.row, step)) = {{row.largest_score(), row.sum}};
  }

  /// Moves row r to its weighted mean. After its last update, `residual` is the lane's part of the squared movement.
  /// Only that and the results need the state in float32, so no update before the last but one writes it.
  HOPFIELD_DEVICE void move(int r, int step) {
    auto& row = rows_[r];
    const int depth = static_cast<int>(f_.call.depth);
    const bool final = step + 1 == row.steps_max, kept = step + 2 >= row.steps_max;
    const float scale = 1.0f / row.sum;
    auto* states = state_pairs(row.row);
    auto* saved = saved_pairs(row.row, step);
    float squares = 0.0f;
    HOPFIELD_UNROLL
    for (int t = 0; t < padded_width / 8; ++t) {
      if (8 * t >= depth) break;
      const TwoFloats next{{sums_[t][2 * r] * scale, sums_[t][2 * r + 1] * scale}};
      if (final) {
        const auto before = states[4 * t];
        HOPFIELD_UNROLL
        for (int i = 0; i < 2; ++i) {
          const float difference = next.values[i] - before.values[i];
          squares = fused_multiply_add(difference, difference, squares);
        }
      }
      if (kept) states[4 * t] = next;
      const uint32_t query = rounded(next);
      if (saved != nullptr) saved[4 * t] = query;
      *query_pair(r, t) = query ^ row.signs();
    }
    row.residual = squares;
    row.steps += 1;
  }

  HOPFIELD_DEVICE void write_output(int r, const QueryPlace& place) const {
    const auto& row = rows_[r];
    const int width = static_cast<int>(f_.call.width);
    const float scale = 1.0f / row.sum;
    auto* output = own_pairs<uint32_t>(place.in<bfloat16_t>(f_.out.output));
    HOPFIELD_UNROLL
    for (int t = 0; t < padded_width / 8; ++t) {
      if (8 * t >= width) break;
      TwoFloats value{};
      if (!row.dead()) value = {{sums_[t][2 * r] * scale, sums_[t][2 * r + 1] * scale}};
      output[4 * t] = rounded(value);
    }
  }

  HOPFIELD_DEVICE void write_state(int r, const QueryPlace& place) const {
    const auto& row = rows_[r];
    const int depth = static_cast<int>(f_.call.depth);
    auto* states = state_pairs(row.row);
    auto* typed = own_pairs<uint32_t>(place.in<bfloat16_t>(f_.out.state));
    for (int t = 0; 8 * t < depth; ++t) {
      if (row.steps < row.steps_max) {  // it attends to nothing and stays where it is
        const auto query = unpack_pair<bfloat16_t>(*query_pair(r, t) ^ row.signs());
        states[4 * t] = {{query.low, query.high}};
      }
      const uint32_t state = rounded(states[4 * t]);
      typed[4 * t] = state;
      if (f_.out.saved.states == nullptr) continue;
      // The backward pass reads a state after each update, and from here on the state stands still.
      for (int step = row.steps; step < f_.call.most_steps; ++step) saved_pairs(row.row, step)[4 * t] = state;
    }
  }

  const WarpgroupForward& f_;
  const Shared& shared_;
  TileReader<padded_width> tiles_;
  const int barrier_;
  unsigned char* const queries_;
  GroupRow rows_[2];
  float sums_[padded_width / 8][4] = {};
};

}  // namespace hopfield::kernels::cuda
