#pragma once

#include <kernels/cuda/retrieve_set.h>
#include <kernels/cuda/retrieve_tile.h>
#include <kernels/cuda/tile_copy.h>

namespace hopfield::kernels::cuda {

/// The tiles of a set's patterns on their way through shared memory, over and over: the first tiles of the next
/// association are fetched while the last of this one are worked on.
template <class T, int room>
class PatternStream {
 public:
  static constexpr int kKeys = kRetrieveKeys<T, room>, kPitch = kRetrievePitch<T, room>;
  static constexpr int kAhead = 2, kStages = kAhead + 1;
  static constexpr int kBytes = kStages * kKeys * kPitch * static_cast<int>(sizeof(T));

  /// @param memory  kBytes of shared memory
  HOPFIELD_DEVICE PatternStream(const RetrieveCall& call, const RetrieveSet& set, T* memory)
      : call_(call),
        set_(set),
        memory_(memory),
        bias_(set.key_bias(call)),
        tiles_(static_cast<int>((set.keys + kKeys - 1) / kKeys)) {}

  HOPFIELD_DEVICE int tiles() const { return tiles_; }

  /// Begins with the first tile of association `step`, to be followed by the next ones. The last reads out: each of its
  /// tiles of stored patterns is followed by the one of values, if these are others. No thread still works on a tile.
  HOPFIELD_DEVICE void begin(int64_t step) {
    wait_copies<0>();
    sync_threads();
    step_ = step;
    next_ = fetched_ = brought_ = 0;
    values_next_ = false;
    for (int i = 0; i < kAhead; ++i) fetch();
  }

  /// The next tile. All threads of the block, which are done with the tile before.
  HOPFIELD_DEVICE const T* bring() {
    wait_copies<kAhead - 1>();
    sync_threads();
    fetch();
    return stage(brought_++);
  }

 private:
  HOPFIELD_DEVICE T* stage(int number) const { return memory_ + number % kStages * kKeys * kPitch; }

  HOPFIELD_DEVICE void fetch() {
    if (tiles_ > 0) {
      const auto& tensor = values_next_ ? call_.values : call_.stored;
      const auto width = values_next_ ? call_.width : call_.depth;
      const int first = next_ * kKeys;
      const T* source = set_.template patterns<T>(tensor) + first * tensor.row;
      copy_rows<T, kKeys, kRetrieveThreads>(stage(fetched_++), kPitch, product_width<T>(width), source, tensor.row,
                                            static_cast<int>(width), [&](int row) {
                                              const int key = first + row;
                                              return key < set_.keys &&
                                                     (bias_ == nullptr || bias_[key] != minus_infinity());
                                            });
      values_next_ = !values_next_ && step_ >= call_.most_steps && call_.values.data != nullptr;
      if (!values_next_ && ++next_ == tiles_) {
        next_ = 0;
        ++step_;
      }
    }
    commit_copies();
  }

  const RetrieveCall& call_;
  const RetrieveSet& set_;
  T* const memory_;
  const float* const bias_;
  const int tiles_;
  int64_t step_ = 0;
  int next_ = 0;                   ///< tile to fetch, of that association
  bool values_next_ = false;       ///< its values
  int fetched_ = 0, brought_ = 0;  ///< tiles, modulo nothing: stages follow
};

}  // namespace hopfield::kernels::cuda
