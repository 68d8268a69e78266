#pragma once

#include "common/errors.h"
#include "common/image.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::theory_report {

using examples::reading;
using examples::UsageError;

/// Patterns and queries: where they are read from, and what is made of them.
struct Options {
  std::vector<std::string> patterns;        // files and folders; none: the digits
  std::vector<std::string> queries;         // none: the patterns themselves
  std::string tensor;                       // of a safetensors file; empty: the only one
  bool labelled = false;                    // whether the last column of CSV files is a label
  std::optional<examples::ImageSize> size;  // what images are resized to
  int64_t count = 0;                        // only the first so many patterns; 0: all
  std::string normalize = "none";
  double noise = 0;
  uint64_t seed = 0;
  std::optional<double> beta;
  std::optional<int64_t> k90;  // with it, beta follows from the patterns
  std::string chart, json;
  std::string command;  // the whole command line
  bool quiet = false;
};

/// Reads the command line. Returns nothing after --help and --version, whose text it prints.
/// @throws UsageError if the call is wrong
std::optional<Options> parse_command_line(int argc, char** argv);

}  // namespace hopfield::theory_report
