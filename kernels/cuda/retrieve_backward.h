#pragma once

// What the two kernels of retrieval's backward share. The first takes tiles of queries from the last association to the
// first and leaves marks; the second takes tiles of patterns along all associations of all queries.

#include <kernels/cuda/retrieve_scores.h>

namespace hopfield::kernels::cuda {

/// Everything that the kernels get.
struct RetrieveBackward {
  RetrieveCall call;
  RetrieveGradients g;
  RetrieveSets sets;  ///< cut into tiles of one kernel's queries
  int64_t saved_row;

  HOPFIELD_DEVICE int64_t all_rows() const { return call.batch * call.heads * call.queries; }

  /// A query's row of [steps, rows, saved_row], after `step` of 1 .. T updates.
  template <class T>
  HOPFIELD_DEVICE T* saved(void* tensor, int64_t step, int64_t row) const {
    return static_cast<T*>(tensor) + ((step - 1) * all_rows() + row) * saved_row;
  }

  /// A query's state after `step` of 0 .. T updates.
  template <class T>
  HOPFIELD_DEVICE const T* state(const QueryPlace& place, int64_t step) const {
    return step == 0 ? place.template in<T>(call.state) : saved<T>(g.saved.states, step, place.row);
  }

  /// What rounding left of it; null: nothing.
  template <class T>
  HOPFIELD_DEVICE const T* rest(const QueryPlace& place, int64_t step) const {
    return step == 0 || g.saved.rest == nullptr ? nullptr : saved<T>(g.saved.rest, step, place.row);
  }
};

/// What is known of a query's association: its weight for a score is 2^(score - largest) * inverse, and the gradient of
/// the score that weight times (the weight's gradient - mean). No association: all weights are 0.
struct alignas(16) Mark {
  float largest, inverse, mean, beta;

  HOPFIELD_DEVICE static Mark none() { return {bits_float(0x7F800000u), 0.0f, 0.0f, 0.0f}; }
  HOPFIELD_DEVICE float weight(float score) const { return fast_exp2(score - largest) * inverse; }
};

/// Rows of patterns or queries that pass by in a tile, and those whose two products are in registers at a time.
template <class T, int room>
constexpr int kPassingRows = (kIsFloat<T> && room > 128) ? 16 : 32;
constexpr int kRowsAtOnce = 16;

/// What a kernel's blocks look like, from the `Shared` memory of so many warps: two where four do not fit.
template <class Shared>
struct BackwardBlock {
  int warps = kRetrieveWarps;
  size_t bytes;

  template <class... Needs>
  explicit BackwardBlock(const RetrieveCall& call, Needs... needs) {
    const auto of = [&](int count) { return static_cast<size_t>(Shared(needs..., count).total); };
    if (of(warps) > retrieve_shared_bytes(call)) warps = 2;
    bytes = of(warps);
  }
};

/// Shared memory that a block of retrieve_pattern_gradient() takes.
size_t retrieve_pattern_gradient_bytes(const RetrieveCall& call);
std::string retrieve_pattern_gradient(const RetrieveBackward& backward, Stream stream);

}  // namespace hopfield::kernels::cuda
