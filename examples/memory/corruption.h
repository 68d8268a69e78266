#pragma once

#include "options.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace hopfield::image_memory {

constexpr const char* kNoCorruption = "none";

struct CorruptionKind {
  const char* name;
  const char* meaning;  // for the help
  double amount;        // by default
};

/// All kinds of corruption but kNoCorruption.
const std::vector<CorruptionKind>& corruption_kinds();
double default_amount(const std::string& kind);

/// "half 0.5, noise 0.1", or "none".
std::string text_of(const std::vector<Corruption>& corruptions);

/// What stands in place of values that are not known and may not be left out. It says nothing about them: no pattern
/// gains by it on average.
enum class Filling {
  grey,    ///< halfway between black and white
  random,  ///< black or white with the same probability, for networks whose neurons have two values
};

/// Corrupted images, and which of their values are known.
struct Cues {
  at::Tensor images;  // [n, height, width, channels]
  at::Tensor known;   // the same shape, bool; undefined: all are
};

/// Corrupts images [n, height, width, channels] from 0 to 1. Noise can leave that range.
/// @param filling  what the pixels become that `half` hides
Cues corrupted(const at::Tensor& images, const std::vector<Corruption>& corruptions, Filling filling, uint64_t seed);

}  // namespace hopfield::image_memory
