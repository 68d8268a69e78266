#pragma once

#include <kernels/cuda/pool_block.h>
#include <kernels/cuda/pool_tile.h>

namespace hopfield::kernels::cuda {

/// Stages of shared memory that tiles stream through, beside `sets` sets of queries.
template <class T, int most_tiles>
constexpr int pool_stages(int sets) {
  return kIsFloat<T> && most_tiles > 16 && sets > 1 ? 1 : 2;  // beside the widest floats a second one does not fit
}

/// Shared memory of a block that streams. What it needs at the end of a bag takes the place of the tiles.
template <class T, int most_tiles>
size_t streaming_shared_bytes(const PoolCall& call, int sets) {
  const auto padded_width = pool_padded_width(call);
  const int64_t tiles =
      PoolShared<T, kTileRows<T, most_tiles>>(static_cast<int>(padded_width), sets, pool_stages<T, most_tiles>(sets))
          .total;
  const int64_t found = kShared + static_cast<int64_t>(sizeof(float)) * kPoolRows * (3 + padded_width + call.depth);
  return static_cast<size_t>(tiles > found ? tiles : found);
}

/// A stretch of instances in shared memory, in tiles of `rows`. With fewer stages than tiles, these stream through:
/// later tiles are fetched while a block works on one. With as many stages as tiles, they stay and can be run over
/// again.
template <class T, int rows>
class TileStream {
 public:
  /// @param sets  sets of queries that the tiles are multiplied with
  HOPFIELD_DEVICE TileStream(const PoolCall& call, int64_t first, int64_t count, int sets, int stages)
      : call_(call),
        first_(first),
        count_(count),
        padded_width_(pool_padded_width(call)),
        stages_(stages),
        at_(padded_width_, sets, stages) {}

  HOPFIELD_DEVICE int padded_width() const { return padded_width_; }
  HOPFIELD_DEVICE int tiles() const { return static_cast<int>((count_ + rows - 1) / rows); }
  HOPFIELD_DEVICE T* tile(int number) const {
    return shared_memory<T>(at_.tiles) + number % stages_ * rows * tile_pitch<T>(padded_width_);
  }
  /// The first instance of a tile, and how many it has.
  HOPFIELD_DEVICE int64_t first(int number) const { return first_ + static_cast<int64_t>(number) * rows; }
  HOPFIELD_DEVICE int rows_in(int number) const {
    const int64_t left = count_ - static_cast<int64_t>(number) * rows;
    return static_cast<int>(left < rows ? left : rows);
  }
  /// An instance is (y - shift) scale of its row in the tile, see normalize_tile().
  HOPFIELD_DEVICE float* scales(int number) const { return of_tile(at_.scales, number); }
  HOPFIELD_DEVICE float* shifts(int number) const { return of_tile(at_.shifts, number); }
  HOPFIELD_DEVICE float* norms(int number) const { return of_tile(at_.norms, number); }
  HOPFIELD_DEVICE unsigned char* queries(int set) const { return shared_memory(at_.sets + set * at_.set_size); }
  HOPFIELD_DEVICE WeightTile<T, rows> weights() const { return WeightTile<T, rows>(shared_memory(at_.weights)); }
  /// At least 1 KB of scratch memory, where the weights are otherwise.
  HOPFIELD_DEVICE float* scratch() const { return shared_memory<float>(at_.weights); }
  HOPFIELD_DEVICE float* maxima() const { return shared_memory<float>(at_.maxima); }  ///< [warps, 16]
  HOPFIELD_DEVICE float* row_sums(int set) const {
    return shared_memory<float>(at_.sets + set * at_.set_size + at_.row_sums);
  }
  HOPFIELD_DEVICE float* row_scales(int set) const {
    return shared_memory<float>(at_.sets + set * at_.set_size + at_.row_scales);
  }

  /// Calls `take(number)` for each tile when its rows have come and those of the calling warp are normalised.
  /// Meanwhile, `ahead` more tiles are under way, which has to be fewer than there are stages. `take` sees what the
  /// block's threads wrote to shared memory before.
  template <int ahead, class Take>
  HOPFIELD_DEVICE void run(const Take& take) const {
    begin<ahead>();
    for (int number = 0; number < tiles(); ++number) {
      bring<ahead>(number);
      take(number);
      sync_threads();  // the stage is free again
    }
  }
  template <int ahead>
  HOPFIELD_DEVICE void begin() const {
    for (int number = 0; number < ahead; ++number) fetch(number);
  }
  template <int ahead>
  HOPFIELD_DEVICE void bring(int number) const {
    fetch(number + ahead);
    wait_copies<ahead>();
    sync_threads();
    normalize_tile<T, rows>(tile(number), scales(number), shifts(number), call_, padded_width_, norms(number));
  }

  /// Runs over the tiles again, after a run whose tiles have all stayed.
  template <class Take>
  HOPFIELD_DEVICE void run_again(const Take& take) const {
    sync_threads();
    for (int number = 0; number < tiles(); ++number) {
      take(number);
      sync_threads();
    }
  }

 private:
  HOPFIELD_DEVICE float* of_tile(int place, int number) const {
    return shared_memory<float>(place) + number % stages_ * rows;
  }
  /// Begins to copy a tile. Behind the last one the group of copies is empty.
  HOPFIELD_DEVICE void fetch(int number) const {
    if (number < tiles()) fetch_tile<T, rows>(tile(number), call_, first(number), rows_in(number), padded_width_);
    commit_copies();
  }

  const PoolCall& call_;
  const int64_t first_, count_;
  const int padded_width_, stages_;
  const PoolShared<T, rows> at_;
};

}  // namespace hopfield::kernels::cuda
