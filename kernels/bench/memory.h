#pragma once

#include "kernels/bench/case.h"

#include <string>

namespace hopfield::bench {

/// The memory that one run of a case needs.
struct Memory {
  int64_t extra_bytes;  ///< peak of resident memory, beyond the weights and data that are there before the run
  int64_t input_bytes;  ///< size of the case's data, for comparison
};

/// The option of hopfield_bench that names the contender for print_extra_memory().
constexpr auto kMeasureMemoryOf = "--measure-memory-of";

/// Measures in a process of its own, because memory left over from earlier work would hide what a run needs.
/// @param contender  "hopfield" or "sdpa"
/// @throws std::runtime_error if the process fails
Memory extra_memory_elsewhere(const Case& which, const std::string& contender);

/// What that process does: it measures, and prints both numbers.
void print_extra_memory(const Case& which, const std::string& contender);

}  // namespace hopfield::bench
