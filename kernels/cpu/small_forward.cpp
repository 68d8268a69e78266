#include "kernels/cpu/small_forward.h"

#include "kernels/cpu/retrieve_tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::kernels {
namespace {

constexpr int64_t kMostKeys = 64, kMostWidth = 256;
/// Queries that make their updates together, at most.
constexpr int64_t kRows = 64;

bool fits(int64_t width) { return width > 0 && width <= kMostWidth && width == padded(width); }

/// Memory of a task.
struct Scratch {
  alignas(64) float products[(kMostWidth + kMostKeys) * kPadding];
  alignas(64) float states[kRows * kMostWidth], next[kRows * kMostWidth];
};

/// The queries of one batch element and head, and their patterns.
class Pair {
 public:
  Pair(const Call& call, const Outputs& outputs, int64_t batch, int64_t head)
      : p_(call), out_(outputs), batch_(batch), head_(head) {
    first_key_ = p_.is_ragged() ? p_.offsets[batch] : 0;
    keys_ = p_.is_ragged() ? p_.offsets[batch + 1] - first_key_ : p_.keys;
    first_place_ = p_.has_ragged_queries() ? p_.state_offsets[batch] : 0;
    queries_ = p_.has_ragged_queries() ? p_.state_offsets[batch + 1] - first_place_ : p_.queries;
  }

  void run(Scratch& scratch) const {
    for (int64_t first = 0; first < queries_; first += kRows) take(first, std::min(kRows, queries_ - first), scratch);
  }

 private:
  /// Some of the queries: where their states are, how far they have come, and the sums of the association at hand.
  struct Rows {
    int64_t first, count;
    const float* states;
    int64_t state_row;
    int64_t steps[kRows];
    float residual[kRows], largest[kRows], sum[kRows], logsumexp[kRows];
    bool frozen[kRows];

    bool is_dead(int64_t i) const { return largest[i] == -std::numeric_limits<float>::infinity() && sum[i] == 0.0f; }
    bool all_frozen() const {
      return std::all_of(frozen, frozen + count, [](bool is) { return is; });
    }
  };

  int64_t index(int64_t query) const {
    return p_.has_ragged_queries() ? (first_place_ + query) * p_.heads + head_
                                   : (batch_ * p_.heads + head_) * p_.queries + query;
  }
  float* row(const Strided& tensor, int64_t place) const {
    return reinterpret_cast<float*>(address(tensor, p_.type, batch_, head_, place));
  }

  void take(int64_t first, int64_t count, Scratch& scratch) const {
    Rows rows;
    rows.first = first, rows.count = count;
    rows.states = row(p_.state, first_place_ + first), rows.state_row = p_.state.row;
    std::fill_n(rows.steps, count, 0);
    std::fill_n(rows.residual, count, std::numeric_limits<float>::quiet_NaN());
    std::fill_n(rows.frozen, count, false);
    for (int64_t step = 0; step < p_.steps_max[head_] && !rows.all_frozen(); ++step) update(rows, scratch);
    associate(rows, true, row(out_.output, first_place_ + first), out_.output.row, scratch);
    write(rows);
  }

  /// One association of all rows. `last`: the values are read out, otherwise the stored patterns.
  void associate(Rows& rows, bool last, float* output, int64_t output_row, Scratch& scratch) const {
    const bool own_values = last && p_.has_values();
    SmallSet s{};
    s.queries = rows.states, s.query_row = rows.state_row;
    s.rows = rows.count, s.first_query = rows.first;
    s.beta = p_.beta[head_];
    s.keys = row(p_.stored, first_key_), s.key_row = p_.stored.row;
    s.values = own_values ? row(p_.values, first_key_) : s.keys;
    s.value_row = own_values ? p_.values.row : s.key_row;
    s.count = keys_, s.depth = p_.depth, s.width = last ? p_.width : p_.depth;
    s.is_causal = p_.is_causal;
    s.output = output, s.output_row = output_row;
    s.largest = rows.largest, s.sum = rows.sum, s.logsumexp = rows.logsumexp;
    tile_ops().small_association(s, scratch.products);
  }

  void update(Rows& rows, Scratch& scratch) const {
    const auto width = p_.depth;
    associate(rows, false, scratch.next, width, scratch);
    if (rows.states != scratch.states) {
      for (int64_t i = 0; i < rows.count; ++i) {
        std::copy_n(rows.states + i * rows.state_row, width, scratch.states + i * width);
      }
      rows.states = scratch.states, rows.state_row = width;
    }
    const auto eps = p_.eps[head_];
    for (int64_t i = 0; i < rows.count; ++i) {
      if (rows.frozen[i]) continue;
      if (rows.is_dead(i)) {
        rows.frozen[i] = true;
        continue;
      }
      const float* next = scratch.next + i * width;
      float* state = scratch.states + i * width;
      const auto moved = tile_ops().distance(next, state, width);
      std::copy_n(next, width, state);
      ++rows.steps[i];
      rows.residual[i] = moved;
      rows.frozen[i] = eps > 0 && !(moved > eps && std::isfinite(moved));
    }
  }

  void write(const Rows& rows) const {
    for (int64_t i = 0; i < rows.count; ++i) {
      const auto at = index(rows.first + i);
      const bool dead = rows.is_dead(i);
      out_.logsumexp[at] = rows.logsumexp[i];
      out_.residual[at] = dead ? 0.0f : rows.residual[i];
      out_.steps[at] = rows.steps[i];
      out_.converged[at] = dead || rows.residual[i] <= p_.eps[head_];
      if (out_.state.data != nullptr) {
        std::copy_n(rows.states + i * rows.state_row, p_.depth, row(out_.state, first_place_ + rows.first + i));
      }
    }
  }

  const Call& p_;
  const Outputs& out_;
  int64_t batch_, head_, first_key_, keys_, first_place_, queries_;
};

}  // namespace

bool is_small(const Call& call, const Outputs& outputs) {
  const bool plain = !(call.per_head && call.most_steps > 0) && call.separation == Separation::softmax &&
                     !call.is_pool() && call.type == ElementType::float32 && call.key_bias == nullptr &&
                     !call.has_mask() && call.dropout == 0.0 && outputs.scores == nullptr &&
                     outputs.saved.sums == nullptr;
  // Gathers number the elements of 16 rows in 32 bits.
  constexpr int64_t kMostRow = std::numeric_limits<int32_t>::max() / kPadding;
  if (!plain || !fits(call.depth) || !fits(call.width) || call.state.row > kMostRow) return false;
  if (!call.is_ragged()) return call.keys <= kMostKeys;
  for (int64_t n = 0; n < call.batch; ++n) {
    if (call.offsets[n + 1] - call.offsets[n] > kMostKeys) return false;
  }
  return true;
}

void small_forward(const Call& call, const Outputs& outputs, const Parallel& parallel) {
  const auto pairs = call.batch * call.heads;
  const auto in_task = std::clamp<int64_t>(pairs / 64, 1, 32);
  parallel((pairs + in_task - 1) / in_task, [&](int64_t task) {
    Scratch scratch;
    for (auto i = task * in_task; i < std::min(pairs, (task + 1) * in_task); ++i) {
      Pair(call, outputs, i / call.heads, i % call.heads).run(scratch);
    }
  });
}

}  // namespace hopfield::kernels
