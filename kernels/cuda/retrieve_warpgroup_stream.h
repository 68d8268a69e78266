#pragma once

// Tiles of stored patterns and values pass through a ring in shared memory: one thread fetches them, association after
// association without a pause, and two warpgroups multiply with them.

#include <kernels/cuda/retrieve_forward.h>
#include <kernels/cuda/tensor_copy.h>
#include <kernels/cuda/warpgroup_mma.h>

namespace hopfield::kernels::cuda {

/// What the kernel is given.
struct WarpgroupForward : RetrieveForward {
  TensorMap stored{}, values{};

  using RetrieveForward::RetrieveForward;
};

/// Shared memory of a block, in bytes from a multiple of kTileAlignment on.
template <int padded_width>
struct WarpgroupShared {
  /// Warpgroups that multiply, and the queries of each.
  static constexpr int kGroups = 2, kQueries = 64;
  /// Patterns of a tile, and the pieces of 64 features that it is copied in.
  static constexpr int kKeys = 128, kPieces = padded_width / kTileColumns;
  static constexpr int kQueryPiece = kQueries * kTileRowBytes, kPatternPiece = kKeys * kTileRowBytes;
  static constexpr int kTile = kPieces * kPatternPiece;
  /// Tiles of the ring. They take all of the memory, so that copies go on while the warpgroups turn from one
  /// association to the next.
  static constexpr int kStages = padded_width > 64 ? 5 : 8;

  static constexpr int kPatterns = kGroups * kPieces * kQueryPiece;
  static constexpr int kFull = kPatterns + kStages * kTile;
  static constexpr int kEmpty = kFull + kStages * static_cast<int>(sizeof(MemoryBarrier));
  static constexpr int kEnd = kEmpty + kStages * static_cast<int>(sizeof(MemoryBarrier));
  /// Shared memory begins at a multiple of 128.
  static constexpr int kTotal = kEnd + kTileAlignment - 128;

  unsigned char* begin;

  HOPFIELD_DEVICE WarpgroupShared() : begin(shared_memory()) {
    begin += (kTileAlignment - shared_address(begin) % kTileAlignment) % kTileAlignment;
  }

  HOPFIELD_DEVICE unsigned char* queries(int group) const { return begin + group * kPieces * kQueryPiece; }
  HOPFIELD_DEVICE unsigned char* tile(int stage) const { return begin + kPatterns + stage * kTile; }
  HOPFIELD_DEVICE MemoryBarrier* full(int stage) const {
    return reinterpret_cast<MemoryBarrier*>(begin + kFull) + stage;
  }
  HOPFIELD_DEVICE MemoryBarrier* empty(int stage) const {
    return reinterpret_cast<MemoryBarrier*>(begin + kEmpty) + stage;
  }

  /// By one thread, before the others go on.
  HOPFIELD_DEVICE void init_barriers() const {
    for (int stage = 0; stage < kStages; ++stage) {
      init_memory_barrier(full(stage), 1);
      init_memory_barrier(empty(stage), kGroups * kWarpgroup / 32);
    }
    fence_memory_barriers();
  }
};

/// A place in the ring, and the parity of the number of rounds so far.
template <int stages>
struct RingPlace {
  int stage = 0, parity = 0;

  HOPFIELD_DEVICE void advance() {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }
};

/// Fetches the patterns of a set once for each association. They do not depend on the queries, so copies for the next
/// association begin while the warpgroups still work on this one.
template <int padded_width>
HOPFIELD_DEVICE void fetch_patterns(const WarpgroupForward& f, const RetrieveSet& set,
                                    const WarpgroupShared<padded_width>& shared) {
  using Shared = WarpgroupShared<padded_width>;
  const auto& call = f.call;
  RingPlace<Shared::kStages> place;
  const auto fetch = [&](const TensorMap* map, const Strided& tensor, int first) {
    auto* full = shared.full(place.stage);
    wait(shared.empty(place.stage), place.parity ^ 1);  // does not wait in the first round
    arrive_expecting(full, Shared::kTile);
    HOPFIELD_UNROLL
    for (int piece = 0; piece < Shared::kPieces; ++piece) {
      copy_tile(shared.tile(place.stage) + piece * Shared::kPatternPiece, map, piece * kTileColumns, first,
                tensor.head != 0 ? set.head : 0, tensor.batch != 0 ? set.batch : 0, full);
    }
    place.advance();
  };
  const bool values = call.values.data != nullptr;
  const int keys = static_cast<int>(call.keys);
  prefetch_tensor_map(&f.stored);
  if (values) prefetch_tensor_map(&f.values);
  for (int64_t step = 0; step <= call.most_steps; ++step) {
    for (int first = 0; first < keys; first += Shared::kKeys) {
      fetch(&f.stored, call.stored, first);
      if (values && step == call.most_steps) fetch(&f.values, call.values, first);
    }
  }
}

/// The ring from the side of a warpgroup.
template <int padded_width>
class TileReader {
 public:
  HOPFIELD_DEVICE explicit TileReader(const WarpgroupShared<padded_width>& shared) : shared_(shared) {}

  /// Waits for the next tile and returns its stage.
  HOPFIELD_DEVICE int bring() {
    const int stage = place_.stage;
    wait(shared_.full(stage), place_.parity);
    place_.advance();
    return stage;
  }

  /// Gives a stage back. The products of this warp with its tile have ended.
  HOPFIELD_DEVICE void release(int stage) const {
    if (lane_index() == 0) arrive(shared_.empty(stage));
  }

 private:
  const WarpgroupShared<padded_width>& shared_;
  RingPlace<WarpgroupShared<padded_width>::kStages> place_;
};

}  // namespace hopfield::kernels::cuda
