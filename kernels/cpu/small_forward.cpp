#include "kernels/cpu/small_forward.h"

#include "kernels/cpu/retrieve_tiles.h"

#include <algorithm>
#include <limits>

namespace hopfield::kernels {
namespace {

constexpr int64_t kMostKeys = 64, kMostWidth = 256;
/// Queries that share their results' places in memory, at most.
constexpr int64_t kRows = 64;

bool fits(int64_t width) { return width > 0 && width <= kMostWidth && width == padded(width); }

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

  void run(float* scratch) const {
    for (int64_t first = 0; first < queries_; first += kRows) take(first, std::min(kRows, queries_ - first), scratch);
  }

 private:
  int64_t index(int64_t query) const {
    return p_.has_ragged_queries() ? (first_place_ + query) * p_.heads + head_
                                   : (batch_ * p_.heads + head_) * p_.queries + query;
  }
  float* row(const Strided& tensor, int64_t place) const {
    return reinterpret_cast<float*>(address(tensor, p_.type, batch_, head_, place));
  }

  void take(int64_t first, int64_t count, float* scratch) const {
    float largest[kRows], sum[kRows], logsumexp[kRows];
    SmallSet s{};
    s.queries = row(p_.state, first_place_ + first);
    s.query_row = p_.state.row;
    s.rows = count;
    s.first_query = first;
    s.beta = p_.beta[head_];
    s.keys = row(p_.stored, first_key_);
    s.key_row = p_.stored.row;
    s.values = p_.has_values() ? row(p_.values, first_key_) : s.keys;
    s.value_row = p_.has_values() ? p_.values.row : s.key_row;
    s.count = keys_;
    s.depth = p_.depth;
    s.width = p_.width;
    s.is_causal = p_.is_causal;
    s.output = row(out_.output, first_place_ + first);
    s.output_row = out_.output.row;
    s.largest = largest, s.sum = sum, s.logsumexp = logsumexp;
    tile_ops().small_association(s, scratch);
    for (int64_t i = 0; i < count; ++i) {
      const auto at = index(first + i);
      out_.logsumexp[at] = logsumexp[i];
      out_.residual[at] = std::numeric_limits<float>::quiet_NaN();
      out_.steps[at] = 0;
      out_.converged[at] = false;
      if (largest[i] == -std::numeric_limits<float>::infinity() && sum[i] == 0.0f) {
        out_.residual[at] = 0.0f;
        out_.converged[at] = true;
      }
      if (out_.state.data != nullptr) {
        std::copy_n(s.queries + i * s.query_row, p_.depth, row(out_.state, first_place_ + first + i));
      }
    }
  }

  const Call& p_;
  const Outputs& out_;
  int64_t batch_, head_, first_key_, keys_, first_place_, queries_;
};

}  // namespace

bool is_small(const Call& call, const Outputs& outputs) {
  const bool plain = call.most_steps == 0 && call.separation == Separation::softmax && !call.is_pool() &&
                     call.type == ElementType::float32 && call.key_bias == nullptr && !call.has_mask() &&
                     call.dropout == 0.0 && outputs.scores == nullptr && outputs.saved.sums == nullptr;
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
    alignas(64) float scratch[(kMostWidth + kMostKeys) * kPadding];
    for (auto i = task * in_task; i < std::min(pairs, (task + 1) * in_task); ++i) {
      Pair(call, outputs, i / call.heads, i % call.heads).run(scratch);
    }
  });
}

}  // namespace hopfield::kernels
