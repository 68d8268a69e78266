#pragma once

#include "kernels/bench/case.h"

#include <string>
#include <vector>

namespace hopfield::bench {

struct GpuRun {
  bool peer;         ///< LibTorch's attention too, by each of its backends in turn
  int repetitions;   ///< medians are of so many
  std::string json;  ///< file for everything measured, written anew after each case; none if empty
};

/// Times cases on the GPU and prints them as rows of a Markdown table.
/// @return whether the library could run all of them
/// @throws std::runtime_error if there is no GPU
bool run_on_gpu(std::vector<Case> cases, const GpuRun& how);

}  // namespace hopfield::bench
