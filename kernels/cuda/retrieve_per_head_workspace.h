#pragma once

// What the launches of the stop rule per_head share: the memory that they pass on to each other, and where a block has
// what.

#include <kernels/cuda/retrieve_queries.h>
#include <kernels/cuda/workspace.h>

namespace hopfield::kernels::cuda {

/// One kernel serves all widths, so that there are few to compile.
constexpr int kPerHeadWidth = 256;
/// Patterns of a tile. With float32 it has half as many as elsewhere: the comparison needs the registers and the shared
/// memory.
template <class T>
constexpr int kPerHeadKeys = kIsFloat<T> ? 16 : 32;
/// Queries of a block.
template <class T>
constexpr int kPerHeadRows = kRetrieveWarps* kWarpRows<T, kPerHeadWidth>;

/// How far a head has come.
struct HeadProgress {
  uint32_t stopped = 0, steps = 0;           ///< steps is known once it has stopped
  float residual = bits_float(0x7FC00000u);  ///< of the comparison before; NaN: there was none
  /// Bits of the largest square of a movement that this launch has found in the batch so far. As bits, floats that are
  /// not negative compare like integers, for which there is an atomic maximum.
  uint32_t largest = 0;
};

/// Device memory of a call. A sample is one head of one batch element. A tile of queries may have several samples, and
/// a sample may reach over several tiles.
struct PerHeadWorkspace {
  uint32_t* tickets = nullptr;         ///< of the launch's blocks
  uint32_t* going_on = nullptr;        ///< number of heads that have not stopped
  uint32_t* sample_tickets = nullptr;  ///< of the tiles of each sample [sets, samples of a set]
  HeadProgress* heads = nullptr;       ///< [heads]
  /// Squares of the movements, of each sample in each of its tiles [sets, samples + tiles of a set]. The sum of
  /// the sample's and the tile's number is a place of its own for each pair: along the queries of a set, one of the two
  /// grows from pair to pair, or both.
  float* parts = nullptr;
  float* log_sums = nullptr;  ///< logsumexp of the association before, in units of log 2 [rows]
};

/// What a launch is given.
struct PerHeadForward {
  RetrieveForward f;
  PerHeadWorkspace work;
  int64_t samples = 0;  ///< of a set
  int64_t step = 0;     ///< updates made before this launch

  PerHeadForward(const RetrieveCall& call, const Outputs& outputs, const RetrieveSets& sets, void* workspace)
      : f(call, outputs, sets, workspace), samples(sets.rows / call.queries) {
    WorkspaceCutter cutter(workspace);
    cutter.take<float>(2 * call.rows() * call.depth);  // the states
    work.tickets = cutter.take<uint32_t>(1);
    work.going_on = cutter.take<uint32_t>(1);
    work.sample_tickets = cutter.take<uint32_t>(sets.sets * samples);
    work.heads = cutter.take<HeadProgress>(call.heads);
    work.parts = cutter.take<float>(sets.sets * (samples + sets.tiles));
    work.log_sums = cutter.take<float>(call.rows());
    bytes = cutter.size();
  }

  size_t bytes;  ///< of the workspace
};

/// Shared memory of a block, in bytes from its beginning: first that of the queries, then what the comparison needs.
template <class T>
struct PerHeadShared {
  int moves;     ///< by how much each state has moved
  int squares;   ///< squared movement of each query's association
  int arrivals;  ///< answers of one thread to all
  int total;

  HOPFIELD_DEVICE constexpr explicit PerHeadShared(bool exact_states)
      : moves((QueryShared<T, kPerHeadWidth, kPerHeadKeys<T>>(exact_states).total + 127) / 128 * 128),
        squares(moves + kPerHeadRows<T> * kRetrievePitch<T, kPerHeadWidth> * static_cast<int>(sizeof(T))),
        arrivals(squares + kPerHeadRows<T> * 4),
        total(arrivals + 4 * 4) {}
};

/// What launches before have found. The first launch cannot read the memory, which its blocks are still writing.
HOPFIELD_DEVICE HeadProgress progress_of(const PerHeadForward& s, int head) {
  if (s.step > 0) return s.work.heads[head];
  HeadProgress progress;
  progress.stopped = s.f.call.steps_max[head] <= 0 ? 1 : 0;
  return progress;
}

}  // namespace hopfield::kernels::cuda
