#pragma once

#include "kernels/bench/case.h"

#include <string>

namespace hopfield::bench {

/// What one run takes at its peak, on top of the weights and data that are there before it.
struct Memory {
  int64_t extra_bytes;  ///< of resident memory
  int64_t input_bytes;  ///< of the case's data, for comparison
};

/// Option of hopfield_bench that says whose memory print_extra_memory() is to measure.
constexpr auto kMeasureMemoryOf = "--measure-memory-of";

/// Measured in a process of its own, since what earlier work has left behind would hide what a run takes.
/// @param contender  "hopfield" or "sdpa"
/// @throws std::runtime_error if the process fails
Memory extra_memory_elsewhere(const Case& which, const std::string& contender);

/// The part of that process: measures, and prints both numbers.
void print_extra_memory(const Case& which, const std::string& contender);

}  // namespace hopfield::bench
