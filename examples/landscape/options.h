#pragma once

#include "common/errors.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::landscape {

using examples::UsageError;

struct Options {
  std::string patterns;  // a CSV file; empty: built in
  std::string memory = "continuous";
  std::optional<std::string> similarity;  // of the continuous memory; not set: dot
  std::vector<double> betas;              // none: they follow from the patterns
  int64_t starts = 6, resolution = 161;
  uint64_t seed = 0;
  std::string out, json;
  std::string command;  // the whole command line
  bool quiet = false;
};

/// Reads the command line. Returns nothing after --help and --version, whose text it prints.
/// @throws UsageError if the call is wrong
std::optional<Options> parse_command_line(int argc, char** argv);

}  // namespace hopfield::landscape
