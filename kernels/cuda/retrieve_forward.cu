#include <kernels/cuda/launch.h>
#include <kernels/cuda/retrieve_dispatch.h>
#include <kernels/cuda/retrieve_queries.h>
#include <kernels/cuda/retrieve_warpgroup.h>

namespace hopfield::kernels::cuda {
namespace {

/// All steps of a tile of queries.
template <class T, int room>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(kRetrieveThreads, 1) retrieve_all_steps(RetrieveForward f) {
  const QueryShared<T, room> at(f.call.exact_states);
  const int64_t tile = block_index().x % f.sets.tiles;
  const RetrieveSet set(f.call, f.sets, block_index().x / f.sets.tiles);
  PatternStream<T, room, kKeysAtOnce<T, room>, 1> patterns(f.call, set, shared_memory<T>(at.patterns));
  QueryTile<T, room> work(f, set, tile, patterns);
  int* votes = shared_memory<int>(at.votes);
  constexpr int64_t kForever = int64_t{1} << 62;
  work.load();
  patterns.begin({f.call.most_steps, kForever, false});
  for (int64_t step = 0;; ++step) {
    // Twice the room: some warps may still count the votes before.
    int* vote = votes + step % 2 * kRetrieveWarps;
    const bool goes_on = work.any_active(step);
    if (lane_index() == 0) vote[warp_index()] = goes_on ? 1 : 0;
    sync_threads();
    bool last = true;
    for (int warp = 0; warp < kRetrieveWarps; ++warp) last = last && vote[warp] == 0;
    // All have stopped early: an update was expected, and its tiles are on their way.
    if (last && step < f.call.most_steps) patterns.begin({0, kForever, false});
    work.associate(last);
    if (last) break;
    work.update(step);
  }
  work.write_results();
}

template <class T, int room>
std::string run(const RetrieveCall& call, const RetrieveOutputs& outputs, Stream stream) {
  const RetrieveForward f{call, outputs, retrieve_sets(call, kRetrieveRows<T, room>), retrieve_saved_row(call)};
  const QueryShared<T, room> shared(call.exact_states);
  const LaunchShape shape{{f.sets.sets * f.sets.tiles, 1, 1}, kRetrieveThreads, static_cast<size_t>(shared.total)};
  return launch(retrieve_all_steps<T, room>, shape, stream, f);
}

}  // namespace

int64_t retrieve_saved_row(const RetrieveCall& call) {
  const int64_t in_piece = call.type == ElementType::float32 ? 4 : 8;
  return (call.depth + in_piece - 1) / in_piece * in_piece;
}

std::string retrieve_reason_against(const RetrieveCall& call) {
  const auto width = call.depth > call.width ? call.depth : call.width;
  if (width > kRetrieveMostWidth) {
    return "the fused kernels of the GPU take heads of at most " + std::to_string(kRetrieveMostWidth) +
           " numbers, not " + std::to_string(width);
  }
  const auto rows = call.batch * call.heads * call.queries;
  if (rows >= int64_t{1} << 31) {
    return "the fused kernels of the GPU take fewer than 2^31 queries of all heads, not " + std::to_string(rows);
  }
  const auto needed = for_patterns(call, [&](auto patterns) {
    using Patterns = decltype(patterns);
    return static_cast<size_t>(QueryShared<typename Patterns::Type, Patterns::kRoom>(call.exact_states).total);
  });
  const auto there = device_limits().shared_bytes;
  if (needed <= there) return {};
  return "heads of " + std::to_string(width) + " numbers take " + std::to_string(needed) +
         " bytes of shared memory, of which a block of this GPU has " + std::to_string(there);
}

std::string retrieve_forward(const RetrieveCall& call, const RetrieveOutputs& outputs, Stream stream) {
  if (call.batch * call.heads * call.queries == 0) return {};
#if defined(HOPFIELD_CUDA_WARPGROUP)
  if (retrieve_warpgroup_reason_against(call, outputs).empty())
    return retrieve_warpgroup_forward(call, outputs, stream);
#endif
  return for_patterns(call, [&](auto patterns) {
    using Patterns = decltype(patterns);
    return run<typename Patterns::Type, Patterns::kRoom>(call, outputs, stream);
  });
}

}  // namespace hopfield::kernels::cuda
