#pragma once

// What follows an association: the next state of each row, whether it stops, and its results.

#include <kernels/cuda/pool_block.h>

namespace hopfield::kernels::cuda {

/// What a kernel of the forward pass is given.
struct PoolForward {
  PoolCall call;
  Outputs out;
  PoolWorkspace work;
};

HOPFIELD_DEVICE bool active(const PoolForward& f, int64_t row, int64_t step) {
  return f.work.frozen[row] == 0 && step < f.call.steps_max[head_of(f.call, row)];
}

/// What an association found for the rows of a group, in shared memory. A block has it for the rows of its share.
struct Found {
  float* sums;    ///< largest score in units of log 2, sum of exponentials, sum of those that dropout kept [3, 16]
  float* means;   ///< mean instances [16, padded width]
  float* states;  ///< the next states are written here [16, depth]

  HOPFIELD_DEVICE float largest(int i) const { return sums[i]; }
  HOPFIELD_DEVICE float sum(int i) const { return sums[kPoolRows + i]; }
  HOPFIELD_DEVICE float kept(int i) const { return sums[2 * kPoolRows + i]; }
  /// Whether there was nothing to attend to.
  HOPFIELD_DEVICE bool dead(int i) const { return largest(i) == minus_infinity() && sum(i) == 0.0f; }
  /// From a sum over the weighted instances to their mean.
  HOPFIELD_DEVICE float mean(int i, float total) const { return dead(i) ? 0.0f : total / sum(i); }
};

/// Initialises the states and counts of a share's rows, before the first association.
HOPFIELD_DEVICE void begin_rows(const PoolForward& f, const RowGroup& group, const Share& share) {
  const auto& call = f.call;
  for (int i = share.row(warp_index()); i < group.count; i = share.row(i, kPoolWarps)) {
    const auto row = group.first + i;
    const float* from = first_state(call, group, row);
    for (int64_t j = lane_index(); j < call.depth; j += 32) f.work.states[row * call.depth + j] = from[j];
    if (lane_index() == 0) {
      f.work.frozen[row] = 0;
      f.out.steps[row] = 0;
      f.out.residual[row] = bits_float(0x7FC00000u);
    }
  }
  sync_threads();
}

HOPFIELD_DEVICE void save_sums(const PoolForward& f, const Found& found, int64_t step, const RowGroup& group, int i) {
  if (f.out.saved.sums == nullptr) return;
  float* to = f.out.saved.sums + 2 * (step * f.call.rows() + group.first + i);
  to[0] = found.largest(i);
  to[1] = found.sum(i);
}

/// Moves a share's rows by update `step`. found.states has their states afterwards, moved or not.
HOPFIELD_DEVICE void update_rows(const PoolForward& f, const RowGroup& group, const Share& share, const Found& found,
                                 int64_t step) {
  const auto& call = f.call;
  map_to_states(call, group, share, found.means, pool_padded_width(call), [&](int i, int j, int head, float value) {
    const float bias = call.map.bias != nullptr ? call.map.bias[head * call.depth + j] : 0.0f;
    found.states[i * call.depth + j] = value + bias;
  });
  sync_threads();
  for (int i = share.row(warp_index()); i < group.count; i = share.row(i, kPoolWarps)) {
    const auto row = group.first + i, saved = step * call.rows() + row;
    if (f.out.saved.means != nullptr) {
      const float* mean = found.means + i * pool_padded_width(call);
      for (int64_t k = lane_index(); k < call.width; k += 32) f.out.saved.means[saved * call.width + k] = mean[k];
    }
    const bool was_active = active(f, row, step), moves = was_active && !found.dead(i);
    float* states = found.states + i * call.depth;
    float squares = 0.0f;
    for (int64_t j = lane_index(); j < call.depth; j += 32) {
      float* state = f.work.states + row * call.depth + j;
      const float before = *state;
      squares += (states[j] - before) * (states[j] - before);
      if (!moves) states[j] = before;
      *state = states[j];
      if (f.out.saved.states != nullptr) floats(f.out.saved.states)[saved * call.depth + j] = states[j];
    }
    squares = warp_sum(squares);
    sync_warp();
    if (lane_index() == 0) {
      save_sums(f, found, step, group, i);
      if (was_active) {
        const float residual = found.dead(i) ? 0.0f : squares > 0.0f ? 1.0f / fast_rsqrt(squares) : squares;
        const float eps = call.eps[head_of(call, row)];
        f.out.residual[row] = residual;
        if (moves) f.out.steps[row] += 1;
        const bool goes_on = residual > eps && residual < bits_float(0x7F800000u);
        f.work.frozen[row] = found.dead(i) || (eps > 0.0f && !goes_on);
      }
    }
  }
  sync_threads();
}

/// Writes the results of a share's rows after the read-out.
HOPFIELD_DEVICE void write_results(const PoolForward& f, const RowGroup& group, const Share& share,
                                   const Found& found) {
  const auto& call = f.call;
  for (int i = share.row(warp_index()); i < group.count; i = share.row(i, kPoolWarps)) {
    const auto row = group.first + i;
    const float* mean = found.means + i * pool_padded_width(call);
    for (int64_t k = lane_index(); k < call.width; k += 32) floats(f.out.output.data)[row * call.width + k] = mean[k];
    for (int64_t j = lane_index(); j < call.depth; j += 32) {
      const float state = f.work.states[row * call.depth + j];
      floats(f.out.state.data)[row * call.depth + j] = state;
      // The backward pass reads a state after each update, and from here on the state stands still.
      for (auto step = f.out.steps[row]; f.out.saved.states != nullptr && step < call.most_steps; ++step) {
        floats(f.out.saved.states)[(step * call.rows() + row) * call.depth + j] = state;
      }
    }
    sync_warp();
    if (lane_index() == 0) {
      const bool dead = found.dead(i);
      save_sums(f, found, call.most_steps, group, i);
      f.out.mass[row] = dead ? 0.0f : found.kept(i) / found.sum(i);
      f.out.logsumexp[row] = dead ? minus_infinity() : (found.largest(i) + fast_log2(found.sum(i))) / kLog2e;
      if (dead) f.out.residual[row] = 0.0f;
      f.out.converged[row] = dead || f.out.residual[row] <= call.eps[head_of(call, row)];
    }
  }
}

}  // namespace hopfield::kernels::cuda
