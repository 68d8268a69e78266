#pragma once

#include "corruption.h"
#include "image_memory.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace hopfield::image_memory {

/// What came of a cue. A state shows an image if none of its pixels is off by more than a tenth of the way from black
/// to white.
enum class Outcome {
  right,     ///< the state shows the image that the cue was made from
  wrong,     ///< the state shows another stored image, which the memory says came back (memory::Recall::matched)
  no_match,  ///< nothing of the kind
  unknown,   ///< the same as wrong, but nobody knows which image should have come back
};
const char* name_of(Outcome outcome);

/// What a memory made of cues.
struct RecallResult {
  Cues cues;
  at::Tensor retrieved;                 // [q, height, width, channels]
  at::Tensor truth;                     // [q] int64: the stored images that should come back, -1: unknown
  at::Tensor match;                     // [q] int64: the stored images that came back, -1: none
  at::Tensor energy, steps, converged;  // [q], as in memory::Recall
  std::vector<Outcome> outcomes;        // [q]
  /// How many cues have a truth, for how many of them the stored image that is closest to the state is the right one,
  /// and the same for the stored image that is closest to the cue in the pixels that are known.
  int64_t with_truth = 0, closest_right = 0, neighbour_right = 0;

  int64_t size() const { return static_cast<int64_t>(outcomes.size()); }
  int64_t count(Outcome outcome) const;
};

/// Corrupts images, which are prepared (see ImageFormat), and lets the memory recall them. Hidden pixels are unknown to
/// the continuous memory; to the others they are grey, or random where neurons have two values.
/// @param truth  [q] int64, as in the result
RecallResult recall_images(const ImageMemory& stored, const at::Tensor& images, const at::Tensor& truth,
                           const std::vector<Corruption>& corruptions, uint64_t seed, int64_t update_steps);

/// A cue as pictures show it: pixels that are hidden are light blue. [height, width, 3]
at::Tensor visible_cue(const Cues& cues, int64_t i);

}  // namespace hopfield::image_memory
