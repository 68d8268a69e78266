#pragma once

#include <kernels/cuda/retrieve_set.h>
#include <kernels/cuda/retrieve_tile.h>
#include <kernels/cuda/row_copy.h>

namespace hopfield::kernels::cuda {

/// Which tiles a stream brings. A sweep goes once over all stored patterns; some sweeps bring the values, too.
struct Sweeps {
  int64_t values_from, values_until;  ///< the sweeps with values, counted from 0
  bool values_first;                  ///< a tile of values comes before the stored patterns of the same keys
};

/// The patterns of a set in shared memory, in tiles of `keys` patterns. There are two ways:
/// * They stream through a ring of three tiles, sweep after sweep. Copies run ahead, also from one sweep into the next.
///   A tile stays until `kept` more have been brought.
/// * They are resident: all tiles are loaded once, and each warp reads them at its own pace.
template <class T, int padded_width, int keys, int kept>
class PatternStream {
 public:
  static constexpr int kPitch = kRetrievePitch<T, padded_width>;
  static constexpr int kStages = 3, kAhead = kStages - kept;
  static constexpr int kTileBytes = keys * kPitch * static_cast<int>(sizeof(T)), kBytes = kStages * kTileBytes;

  /// @param memory  shared memory: kBytes, or if resident kTileBytes for each tile of stored patterns and of values
  HOPFIELD_DEVICE PatternStream(const RetrieveCall& call, const RetrieveSet& set, T* memory, bool resident = false)
      : call_(call),
        set_(set),
        memory_(memory),
        bias_(set.key_bias(call)),
        tiles_(static_cast<int>((set.keys + keys - 1) / keys)),
        resident_(resident),
        shown_(tiles_) {}

  /// Leaves out the tiles behind the first `patterns`, from the next begin() on. All threads of the block leave out the
  /// same ones of a stream, those of a warp the same resident ones.
  HOPFIELD_DEVICE void show(int64_t patterns) { shown_ = static_cast<int>((patterns + keys - 1) / keys); }
  /// The number of tiles that are shown.
  HOPFIELD_DEVICE int tiles() const { return shown_; }

  /// Begins to stream with the first tile of sweep 0. Has no effect on resident tiles. No thread may still read a tile.
  HOPFIELD_DEVICE void begin(const Sweeps& sweeps) {
    sweeps_ = sweeps;
    sweep_ = 0;
    next_ = fetched_ = brought_ = 0;
    second_ = false;
    if (resident_) return;
    wait_copies<0>();
    sync_threads();
    for (int i = 0; i < kAhead; ++i) fetch();
  }

  /// Loads all tiles of a resident set. Called by all threads of the block.
  HOPFIELD_DEVICE void reside() const {
    sync_threads();  // some threads may still read the tiles of the set before
    for (int number = 0; number < tiles_; ++number) {
      copy_tile(memory_ + number * kTileElements, false, number);
      if (call_.values.data != nullptr) copy_tile(memory_ + (tiles_ + number) * kTileElements, true, number);
    }
    commit_copies();
    wait_copies<0>();
    sync_threads();
  }
  HOPFIELD_DEVICE bool resident() const { return resident_; }

  /// A tile of stored patterns, or of values. A stream brings its next tile, whatever the number.
  HOPFIELD_DEVICE const T* stored(int number) { return resident_ ? memory_ + number * kTileElements : bring(); }
  HOPFIELD_DEVICE const T* values(int number) {
    return resident_ ? memory_ + (tiles_ + number) * kTileElements : bring();
  }

  /// Waits for the next tile, and begins to fetch another one in place of the tile that was brought `kept` tiles
  /// before. Called by all threads of the block when they have read that tile.
  HOPFIELD_DEVICE const T* bring() {
    wait_copies<kAhead - 1>();
    sync_threads();
    fetch();
    return stage(brought_++);
  }

 private:
  static constexpr int kTileElements = keys * kPitch;

  HOPFIELD_DEVICE T* stage(int number) const { return memory_ + number % kStages * kTileElements; }

  HOPFIELD_DEVICE void copy_tile(T* target, bool values, int number) const {
    const auto& tensor = values ? call_.values : call_.stored;
    const auto width = static_cast<int>(values ? call_.width : call_.depth);
    const T* source = set_.template patterns<T>(tensor);
    const int thread = opaque(thread_index());
    for (int row = thread / 8; row < keys; row += block_size() / 8) {
      const int key = number * keys + row;
      const bool taken = key < set_.keys && (bias_ == nullptr || bias_[key] != minus_infinity());
      copy_row(target + row * kPitch, product_width<T>(width), source + (taken ? key * tensor.row : 0), width, taken,
               thread % 8);
    }
  }

  HOPFIELD_DEVICE void fetch() {
    if (shown_ > 0) {
      const bool both = call_.values.data != nullptr && sweep_ >= sweeps_.values_from && sweep_ < sweeps_.values_until;
      copy_tile(stage(fetched_++), both && second_ != sweeps_.values_first, next_);
      second_ = both && !second_;
      if (!second_ && ++next_ == shown_) {
        next_ = 0;
        ++sweep_;
      }
    }
    commit_copies();
  }

  const RetrieveCall& call_;
  const RetrieveSet& set_;
  T* const memory_;
  const float* const bias_;
  const int tiles_;
  const bool resident_;
  int shown_;
  Sweeps sweeps_{};
  // The tile that is fetched next. Where the sweep has values, a tile is two: one of stored patterns, one of values.
  int64_t sweep_ = 0;
  int next_ = 0;
  bool second_ = false;            ///< the first of the two has been fetched
  int fetched_ = 0, brought_ = 0;  ///< number of tiles since begin(); tile i is in stage i % kStages
};

}  // namespace hopfield::kernels::cuda
