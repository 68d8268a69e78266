#pragma once

#include <kernels/cuda/retrieve_set.h>
#include <kernels/cuda/retrieve_tile.h>
#include <kernels/cuda/row_copy.h>

namespace hopfield::kernels::cuda {

/// In which sweeps over the stored patterns the values are read as well.
struct Sweeps {
  int64_t values_from, values_until;  ///< sweeps, counted from 0
  bool values_first;                  ///< of a tile's stored patterns and values
};

/// The tiles of a set's patterns, `keys` of them each. Either they stream through shared memory, sweep after sweep: the
/// first tiles of the next sweep are fetched while the last of this one are worked on, and the last `kept` tiles stay.
/// Or they are resident: all of them stay, and each warp takes them when it likes.
template <class T, int padded_width, int keys, int kept>
class PatternStream {
 public:
  static constexpr int kPitch = kRetrievePitch<T, padded_width>;
  static constexpr int kStages = 3, kAhead = kStages - kept;
  static constexpr int kTileBytes = keys * kPitch * static_cast<int>(sizeof(T)), kBytes = kStages * kTileBytes;

  /// @param memory  kBytes of shared memory; for resident tiles, kTileBytes for each tile of stored patterns and values
  HOPFIELD_DEVICE PatternStream(const RetrieveCall& call, const RetrieveSet& set, T* memory, bool resident = false)
      : call_(call),
        set_(set),
        memory_(memory),
        bias_(set.key_bias(call)),
        tiles_(static_cast<int>((set.keys + keys - 1) / keys)),
        resident_(resident) {}

  HOPFIELD_DEVICE int tiles() const { return tiles_; }

  /// Begins with the first tile of sweep 0. No thread still works on a tile. Resident tiles have no order.
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

  /// Brings all tiles that are to stay. All threads of the block.
  HOPFIELD_DEVICE void reside() const {
    sync_threads();  // some may still work on the tiles of another set
    for (int number = 0; number < tiles_; ++number) {
      copy_tile(memory_ + number * kTileElements, false, number);
      if (call_.values.data != nullptr) copy_tile(memory_ + (tiles_ + number) * kTileElements, true, number);
    }
    commit_copies();
    wait_copies<0>();
    sync_threads();
  }
  HOPFIELD_DEVICE bool resident() const { return resident_; }

  /// A tile of stored patterns or of values: a resident one, or else the next of the stream.
  HOPFIELD_DEVICE const T* stored(int number) { return resident_ ? memory_ + number * kTileElements : bring(); }
  HOPFIELD_DEVICE const T* values(int number) {
    return resident_ ? memory_ + (tiles_ + number) * kTileElements : bring();
  }

  /// The next tile. All threads of the block, which are done with the tile that was brought `kept` tiles before.
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
    if (tiles_ > 0) {
      const bool both = call_.values.data != nullptr && sweep_ >= sweeps_.values_from && sweep_ < sweeps_.values_until;
      copy_tile(stage(fetched_++), both && second_ != sweeps_.values_first, next_);
      second_ = both && !second_;
      if (!second_ && ++next_ == tiles_) {
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
  Sweeps sweeps_{};
  int64_t sweep_ = 0;
  int next_ = 0;                   ///< tile to fetch, of that sweep
  bool second_ = false;            ///< of its two halves
  int fetched_ = 0, brought_ = 0;  ///< tiles, modulo nothing: stages follow
};

}  // namespace hopfield::kernels::cuda
