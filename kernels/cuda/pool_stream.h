#pragma once

#include <kernels/cuda/pool_tile.h>

namespace hopfield::kernels::cuda {

/// The tiles of a stretch of instances on their way through shared memory: the next one is fetched while a block works
/// on this one.
template <class T, int rows>
class TileStream {
 public:
  /// @param sets  of queries that the tiles meet
  HOPFIELD_DEVICE TileStream(const PoolCall& call, int64_t first, int64_t count, int sets)
      : call_(call), first_(first), count_(count), room_(static_cast<int>(pool_room(call.width))), at_(room_, sets) {}

  HOPFIELD_DEVICE int room() const { return room_; }
  HOPFIELD_DEVICE T* tile(int number) const {
    return shared_memory<T>(at_.tiles) + number % kPoolStages * rows * tile_pitch<T>(room_);
  }
  /// The tile's first instance, and how many there are.
  HOPFIELD_DEVICE int64_t first(int number) const { return first_ + static_cast<int64_t>(number) * rows; }
  HOPFIELD_DEVICE int rows_in(int number) const {
    const int64_t left = count_ - static_cast<int64_t>(number) * rows;
    return static_cast<int>(left < rows ? left : rows);
  }
  /// An instance is (y - shift) scale of its row in the tile.
  HOPFIELD_DEVICE float* scales() const { return shared_memory<float>(at_.scales); }
  HOPFIELD_DEVICE float* shifts() const { return shared_memory<float>(at_.shifts); }
  HOPFIELD_DEVICE float* norms() const { return shared_memory<float>(at_.norms); }
  HOPFIELD_DEVICE unsigned char* queries(int set) const { return shared_memory(at_.sets + set * at_.set_size); }
  HOPFIELD_DEVICE float* scores(int set) const {
    return shared_memory<float>(at_.sets + set * at_.set_size + at_.scores);
  }
  HOPFIELD_DEVICE float* row_sums(int set) const {
    return shared_memory<float>(at_.sets + set * at_.set_size + at_.row_sums);
  }

  HOPFIELD_DEVICE float* row_scales(int set) const {
    return shared_memory<float>(at_.sets + set * at_.set_size + at_.row_scales);
  }

  /// Calls `take(number)` for each tile when its rows are there and the calling warp's own are normalised. What was
  /// written to shared memory before is seen then.
  template <class Take>
  HOPFIELD_DEVICE void run(const Take& take) const {
    const int tiles = static_cast<int>((count_ + rows - 1) / rows);
    if (tiles > 0) fetch(0);
    commit_copies();
    for (int number = 0; number < tiles; ++number) {
      if (number + 1 < tiles) fetch(number + 1);
      commit_copies();
      wait_copies<1>();
      sync_threads();
      normalize_tile<T, rows>(tile(number), scales(), shifts(), call_, room_, norms());
      take(number);
      sync_threads();  // the stage is free again
    }
  }

 private:
  HOPFIELD_DEVICE void fetch(int number) const {
    fetch_tile<T, rows>(tile(number), call_, first(number), rows_in(number), room_);
  }

  const PoolCall& call_;
  const int64_t first_, count_;
  const int room_;
  const PoolShared<T, rows> at_;
};

}  // namespace hopfield::kernels::cuda
