#include <kernels/cuda/launch.h>
#include <kernels/cuda/retrieve_dispatch.h>
#include <kernels/cuda/retrieve_per_head.h>
#include <kernels/cuda/retrieve_queries.h>
#include <kernels/cuda/retrieve_warpgroup.h>

#include <algorithm>

namespace hopfield::kernels::cuda {
namespace {

template <class T, int padded_width>
using ForwardPatterns = typename QueryTile<T, padded_width>::Patterns;

/// Whether no query takes update `step`: none of the block where its warps share a stream of tiles, none of the warp
/// where the patterns are resident.
template <class T, int padded_width>
HOPFIELD_DEVICE bool all_stopped(const QueryTile<T, padded_width>& work,
                                 const ForwardPatterns<T, padded_width>& patterns, int* votes, int64_t step) {
  const bool goes_on = work.any_active(step);
  if (patterns.resident()) return !goes_on;
  // There are two arrays of votes, since some warps may still read those of the step before.
  int* vote = votes + step % 2 * kMostRetrieveWarps;
  if (lane_index() == 0) vote[warp_index()] = goes_on ? 1 : 0;
  sync_threads();
  bool stopped = true;
  for (int warp = 0; warp < block_size() / 32; ++warp) stopped = stopped && vote[warp] == 0;
  return stopped;
}

/// Takes a tile of queries through all updates and the read-out.
template <class T, int padded_width>
HOPFIELD_DEVICE void take_all_steps(const RetrieveForward& f, const RetrieveSet& set, int64_t tile,
                                    ForwardPatterns<T, padded_width>& patterns, int* votes) {
  constexpr int64_t kForever = int64_t{1} << 62;
  QueryTile<T, padded_width> work(f, set, tile, patterns);
  work.load();
  work.hide_patterns(tile);
  patterns.begin({f.call.most_steps, kForever, false});
  for (int64_t step = 0;; ++step) {
    const bool last = all_stopped<T, padded_width>(work, patterns, votes, step);
    // If all have stopped early, the tiles of another update are under way. The read-out needs other ones.
    if (last && step < f.call.most_steps) patterns.begin({0, kForever, false});
    work.associate(last);
    if (last) break;
    work.update(step);
  }
  work.write_results();
}

/// A block takes a contiguous share of the tiles of all sets.
template <class T, int padded_width>
HOPFIELD_KERNEL void HOPFIELD_LAUNCH_BOUNDS(32 * kMostRetrieveWarps, 1)
    retrieve_all_steps(RetrieveForward f, bool resident) {
  const QueryShared<T, padded_width> at(f.call.exact_states, block_size() / 32);
  const int64_t all = f.sets.sets * f.sets.tiles;
  int number = static_cast<int>(all * block_index().x / grid_size().x);
  const int end = static_cast<int>(all * (block_index().x + 1) / grid_size().x), tiles = static_cast<int>(f.sets.tiles);
  while (number < end) {
    const RetrieveSet set(f.call, f.sets, number / tiles);
    ForwardPatterns<T, padded_width> patterns(f.call, set, shared_memory<T>(at.patterns), resident);
    if (resident) patterns.reside();
    do {
      take_all_steps<T, padded_width>(f, set, number % tiles, patterns, shared_memory<int>(at.votes));
      sync_warp();  // other lanes may still read what the next tile overwrites
    } while (++number < end && number % tiles != 0);
  }
}

/// How a call is launched: blocks of four warps, or of two where memory is small, that stream the patterns, or blocks
/// of eight warps that keep them.
template <class T, int padded_width>
struct Form {
  bool resident;
  int warps;
  RetrieveSets sets;
  int64_t blocks;
  size_t shared_bytes;

  explicit Form(const RetrieveCall& call) {
    const auto limits = device_limits();
    const auto there = retrieve_shared_bytes(call);
    resident = false;
    for (warps = kRetrieveWarps;; warps /= 2) {
      shared_bytes = static_cast<size_t>(QueryShared<T, padded_width>(call.exact_states, warps).total);
      if (shared_bytes <= there || warps == 2) break;
    }
    sets = retrieve_sets(call, warps * kWarpRows<T, padded_width>);
    blocks = sets.sets * sets.tiles;
    keep_patterns(call, there, std::min(limits.multiprocessors, call.most_multiprocessors));
  }

 private:
  /// Chooses resident patterns where they pay. A block then reads the patterns from L2 once, in place of once for each
  /// association of 64 or 128 queries; its warps do not wait for each other at barriers; and a warp whose queries have
  /// stopped goes on to its next ones. It pays where
  /// * all patterns of a set, values included, fit beside the queries of eight warps. A multiprocessor has registers
  /// for
  ///   eight warps in either form, so that one block there loses none;
  /// * the blocks, one on each multiprocessor, have nearly equal shares of full tiles: at most an eighth of the time of
  ///   all multiprocessors may be idle;
  /// * the load, during which a block computes nothing, serves at least eight associations of a tile. It takes an
  /// eighth
  ///   of the time of one association, for S patterns of d numbers: 2 S d bytes at 40 bytes per nanosecond, against
  ///   4 * 256 S d operations at 2500 per nanosecond.
  /// Ragged patterns are always streamed, since the host does not know how many a bag has.
  void keep_patterns(const RetrieveCall& call, size_t there, int64_t multiprocessors) {
    using Shared = QueryShared<T, padded_width>;
    constexpr int64_t kTileRows = kMostRetrieveWarps * kWarpRows<T, padded_width>;
    const auto large = retrieve_sets(call, kTileRows);
    const auto all = large.sets * large.tiles;
    if (call.is_ragged() || call.keys == 0 || all == 0 || multiprocessors == 0) return;
    const auto share = (all + multiprocessors - 1) / multiprocessors;
    if (8 * large.sets * large.rows < 7 * share * multiprocessors * kTileRows) return;
    if (large.tiles * (call.most_steps + 1) < 8) return;
    const auto tiles = (call.keys + kKeysAtOnce<T, padded_width> - 1) / kKeysAtOnce<T, padded_width> *
                       (call.values.data != nullptr ? 2 : 1);
    const auto without = static_cast<size_t>(Shared(call.exact_states, kMostRetrieveWarps, 0).total);
    const auto needed = without + static_cast<size_t>(tiles) * Shared::Patterns::kTileBytes;
    if (needed > there) return;
    resident = true;
    warps = kMostRetrieveWarps;
    sets = large;
    blocks = std::min(all, multiprocessors);
    shared_bytes = needed;
  }
};

template <class T, int padded_width>
std::string run(const RetrieveCall& call, const Outputs& outputs, void* workspace, Stream stream) {
  const Form<T, padded_width> form(call);
  const RetrieveForward f(call, outputs, form.sets, workspace);
  const LaunchShape shape{{form.blocks, 1, 1}, 32 * form.warps, form.shared_bytes};
  return launch(retrieve_all_steps<T, padded_width>, shape, stream, f, form.resident);
}

/// Returns `get` of the call's form.
template <class Get>
auto form_of(const RetrieveCall& call, const Get& get) {
  return for_patterns(call, [&](auto number, auto width) { return get(Form<decltype(number), width()>(call)); });
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
  const auto rows = call.rows();
  if (rows >= int64_t{1} << 31) {
    return "the fused kernels of the GPU take fewer than 2^31 queries of all heads, not " + std::to_string(rows);
  }
  const auto needed = stops_per_head(call) ? retrieve_per_head_shared_bytes(call)
                                           : form_of(call, [](const auto& form) { return form.shared_bytes; });
  const auto there = retrieve_shared_bytes(call);
  if (needed <= there) return {};
  return "heads of " + std::to_string(width) + " numbers take " + std::to_string(needed) +
         " bytes of shared memory, of which a block of this GPU has " + std::to_string(there);
}

bool retrieve_keeps_patterns(const RetrieveCall& call) {
  return form_of(call, [](const auto& form) { return form.resident; });
}

size_t retrieve_workspace_size(const RetrieveCall& call) {
  if (stops_per_head(call)) return retrieve_per_head_workspace_size(call);
  return static_cast<size_t>(call.rows() * call.depth) * sizeof(float);
}

std::string retrieve_forward(const RetrieveCall& call, const Outputs& outputs, void* workspace, Stream stream) {
  const auto& warpgroups = warpgroup_switch();
  if (!warpgroups.error.empty()) return warpgroups.error;
  if (call.rows() == 0) return {};
  if (stops_per_head(call)) return retrieve_forward_per_head(call, outputs, workspace, stream);
  if (warpgroups.on && retrieve_warpgroup_reason_against(call, outputs).empty()) {
    return retrieve_warpgroup_forward(call, outputs, workspace, stream);
  }
  return for_patterns(
      call, [&](auto number, auto width) { return run<decltype(number), width()>(call, outputs, workspace, stream); });
}

}  // namespace hopfield::kernels::cuda
