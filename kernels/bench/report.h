#pragma once

#include "kernels/bench/case.h"

namespace hopfield::bench {

struct ReportOptions {
  at::Device device = at::kCPU;
  double seconds = 0;              ///< time for the whole run
  double scale = 1;                ///< the factor by which the data of the cases was scaled
  std::string json, table;         ///< paths of the result files; not written if empty
  std::vector<std::string> peers;  ///< of kPeers, those to compare with
};

/// Times the cases with this library and with backends of LibTorch's attention. Prints the results and, after each
/// case, writes them to the files. Returns the exit code of the program: 0 if the library ran in all cases that there
/// was time for.
/// @throws std::runtime_error if a file cannot be written
int report(const std::vector<Case>& cases, const ReportOptions& options);

}  // namespace hopfield::bench
