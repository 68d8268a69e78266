#pragma once

#include "kernels/bench/case.h"

namespace hopfield::bench {

struct ReportOptions {
  at::Device device = at::kCPU;
  double seconds = 0;       ///< for the whole run
  double scale = 1;         ///< that the cases have been scaled by
  std::string json, table;  ///< files, or empty
};

/// Measures the cases against all backends of LibTorch's attention, prints what it finds and writes it to the files,
/// anew after each case. Returns the program's exit code: 0 if the library ran in all cases that there was time for.
/// @throws std::runtime_error if a file cannot be written
int report(const std::vector<Case>& cases, const ReportOptions& options);

}  // namespace hopfield::bench
