#pragma once

// What the kernels of the forward pass have in common.

#include <kernels/cuda/retrieve_set.h>

namespace hopfield::kernels::cuda {

/// What a kernel of the forward pass is given.
struct RetrieveForward {
  RetrieveCall call;
  Outputs out;
  RetrieveSets sets;
  float* states;  ///< the states in float32 [rows, depth]; with the stop rule per_head, two such arrays
  int64_t saved_row;

  RetrieveForward(const RetrieveCall& of_call, const Outputs& outputs, const RetrieveSets& of_sets, void* workspace)
      : call(of_call),
        out(outputs),
        sets(of_sets),
        states(static_cast<float*>(workspace)),
        saved_row(retrieve_saved_row(of_call)) {}

  HOPFIELD_DEVICE float* state(int64_t row) const { return states + row * call.depth; }

  /// Element of Saved::states at which a row's state after update `step` begins. Updates are counted from 0.
  HOPFIELD_DEVICE int64_t saved_state(int64_t row, int64_t step) const {
    return (step * call.rows() + row) * saved_row;
  }
  /// Where largest score and sum of a row's association `step` are saved; only if they are wanted.
  HOPFIELD_DEVICE float* saved_sums(int64_t row, int64_t step) const {
    return out.saved.sums + 2 * (step * call.rows() + row);
  }
};

}  // namespace hopfield::kernels::cuda
