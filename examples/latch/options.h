#pragma once

#include "common/errors.h"

#include <cstdint>
#include <optional>
#include <string>

namespace hopfield::latch {

using examples::UsageError;

struct Options {
  std::string task = "all", layer = "all";
  std::optional<int64_t> epochs, samples, length;  // not set: those of the task
  int64_t characters = 6, signals = 8, bits = 8, batch = 32;
  // Of the layer; not set: those of the task.
  std::optional<int64_t> heads, hidden, update_steps;
  std::optional<double> beta;
  std::optional<std::string> bias_pattern;
  double lr = 1e-3, dropout = 0;
  uint64_t seed = 0;
  std::string chart, json;
  std::string command;  // the whole command line
  bool quiet = false;
};

/// Reads the command line. Returns nothing after --help and --version, whose text it prints.
/// @throws UsageError if the call is wrong
std::optional<Options> parse_command_line(int argc, char** argv);

}  // namespace hopfield::latch
