#pragma once

#include <kernels/cuda/retrieve_set.h>
#include <kernels/cuda/retrieve_tile.h>
#include <kernels/cuda/tile_copy.h>

namespace hopfield::kernels::cuda {

/// In which sweeps over the stored patterns the values are read as well.
struct Sweeps {
  int64_t values_from, values_until;  ///< sweeps, counted from 0
  bool values_first;                  ///< of a tile's stored patterns and values
};

/// The tiles of a set's patterns, `keys` of them each, on their way through shared memory, sweep after sweep: the first
/// tiles of the next sweep are fetched while the last of this one are worked on. The last `kept` tiles stay.
template <class T, int room, int keys, int kept>
class PatternStream {
 public:
  static constexpr int kPitch = kRetrievePitch<T, room>;
  static constexpr int kStages = 3, kAhead = kStages - kept;
  static constexpr int kBytes = kStages * keys * kPitch * static_cast<int>(sizeof(T));

  /// @param memory  kBytes of shared memory
  HOPFIELD_DEVICE PatternStream(const RetrieveCall& call, const RetrieveSet& set, T* memory)
      : call_(call),
        set_(set),
        memory_(memory),
        bias_(set.key_bias(call)),
        tiles_(static_cast<int>((set.keys + keys - 1) / keys)) {}

  HOPFIELD_DEVICE int tiles() const { return tiles_; }

  /// Begins with the first tile of sweep 0. No thread still works on a tile.
  HOPFIELD_DEVICE void begin(const Sweeps& sweeps) {
    wait_copies<0>();
    sync_threads();
    sweeps_ = sweeps;
    sweep_ = 0;
    next_ = fetched_ = brought_ = 0;
    second_ = false;
    for (int i = 0; i < kAhead; ++i) fetch();
  }

  /// The next tile. All threads of the block, which are done with the tile that was brought `kept` tiles before.
  HOPFIELD_DEVICE const T* bring() {
    wait_copies<kAhead - 1>();
    sync_threads();
    fetch();
    return stage(brought_++);
  }

 private:
  HOPFIELD_DEVICE T* stage(int number) const { return memory_ + number % kStages * keys * kPitch; }

  HOPFIELD_DEVICE void fetch() {
    if (tiles_ > 0) {
      const bool both = call_.values.data != nullptr && sweep_ >= sweeps_.values_from && sweep_ < sweeps_.values_until;
      const bool values = both && second_ != sweeps_.values_first;
      const auto& tensor = values ? call_.values : call_.stored;
      const auto width = values ? call_.width : call_.depth;
      const int first = next_ * keys;
      const T* source = set_.template patterns<T>(tensor) + first * tensor.row;
      copy_rows<T, keys, kRetrieveThreads>(stage(fetched_++), kPitch, product_width<T>(width), source, tensor.row,
                                           static_cast<int>(width), [&](int row) {
                                             const int key = first + row;
                                             return key < set_.keys &&
                                                    (bias_ == nullptr || bias_[key] != minus_infinity());
                                           });
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
  Sweeps sweeps_{};
  int64_t sweep_ = 0;
  int next_ = 0;                   ///< tile to fetch, of that sweep
  bool second_ = false;            ///< of its two halves
  int fetched_ = 0, brought_ = 0;  ///< tiles, modulo nothing: stages follow
};

}  // namespace hopfield::kernels::cuda
