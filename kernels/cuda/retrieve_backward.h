#pragma once

// What the two kernels of the backward pass share. The kernel of the queries takes tiles of queries from the last
// association to the first. It leaves the gradients of all states, and for each association of each query a mark, from
// which its weights and the gradients of its scores can be found again. The kernel of the patterns takes tiles of
// patterns along all associations of all queries, and adds up their gradients.
//
// P are the weights of an association, dP their gradient, and dS that of the scores: dS = P (dP - D) with the sum
// D = sum(P dP) over the keys.

#include <kernels/cuda/retrieve_scores.h>
#include <kernels/cuda/workspace.h>

namespace hopfield::kernels::cuda {

/// What is known of a query's association: the weight for a score is 2^(score - largest) * inverse, and the gradient of
/// the score is weight * (the weight's gradient - mean). Where no gradient passes an association, all weights are 0.
struct alignas(16) Mark {
  float largest, inverse, mean, beta;

  HOPFIELD_DEVICE static Mark none() { return {bits_float(0x7F800000u), 0.0f, 0.0f, 0.0f}; }
  HOPFIELD_DEVICE float weight(float score) const { return fast_exp2(score - largest) * inverse; }
};

/// What the kernels are given.
struct RetrieveBackward {
  RetrieveCall call;
  Gradients g;
  PartSizes part_sizes;
  int64_t saved_row;
  RetrieveSets sets{};  ///< with the tiles of one of the kernels
  Mark* marks;          ///< [T + 1, rows]
  void* passed;         ///< gradients of the states after 1 .. T updates, of the call's type [T, rows, saved_row]
  size_t bytes;         ///< of the workspace

  RetrieveBackward(const RetrieveCall& of_call, const Gradients& gradients, const PartSizes& sizes, void* workspace)
      : call(of_call), g(gradients), part_sizes(sizes), saved_row(retrieve_saved_row(of_call)) {
    const int64_t bytes_of_number = call.type == ElementType::float32 ? 4 : 2;
    WorkspaceCutter cutter(workspace);
    marks = cutter.take<Mark>((call.most_steps + 1) * call.rows());
    passed = cutter.take<unsigned char>(call.most_steps * call.rows() * saved_row * bytes_of_number);
    bytes = cutter.size();
  }

  HOPFIELD_DEVICE Mark* mark(int64_t step, int64_t row) const { return marks + step * call.rows() + row; }
  HOPFIELD_DEVICE const float* sums(int64_t step, int64_t row) const {
    return g.saved.sums + 2 * (step * call.rows() + row);
  }

  /// A query's row of an array [T, rows, saved_row], after `step` of 1 .. T updates.
  template <class T>
  HOPFIELD_DEVICE T* saved(void* array, int64_t step, int64_t row) const {
    return static_cast<T*>(array) + ((step - 1) * call.rows() + row) * saved_row;
  }

  /// A query's state after `step` of 0 .. T updates.
  template <class T>
  HOPFIELD_DEVICE const T* state(const QueryPlace& place, int64_t step) const {
    return step == 0 ? place.template in<T>(call.state) : saved<T>(g.saved.states, step, place.row);
  }

  /// The rounding error of that state; null: it is not kept, or there is none.
  template <class T>
  HOPFIELD_DEVICE const T* rounding_error(const QueryPlace& place, int64_t step) const {
    return step == 0 || g.saved.rounding_error == nullptr ? nullptr : saved<T>(g.saved.rounding_error, step, place.row);
  }
};

/// Rows of a tile of patterns, or of queries, that passes by. Products with 16 of them are in registers at a time.
template <class T, int padded_width>
constexpr int kPassingRows = (kIsFloat<T> && padded_width > 128) ? 16 : 32;
constexpr int kRowsAtOnce = 16;

/// The blocks of a kernel: four warps, or two where the shared memory of four does not fit. The bits are the same.
/// @tparam Shared  Shared(needs.., warps).total are the bytes of a block
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

/// The kernel of the patterns: shared memory of its blocks, and its launches.
size_t retrieve_backward_patterns_shared_bytes(const RetrieveCall& call);
[[nodiscard]] std::string retrieve_backward_patterns(const RetrieveBackward& backward, Stream stream);

}  // namespace hopfield::kernels::cuda
