#pragma once

#include <optional>
#include <string>
#include <vector>

namespace hopfield::examples {

/// How a program ended, and what it printed.
struct ProcessResult {
  int code = 0;    ///< its exit code
  int signal = 0;  ///< the signal that ended it; 0: none did
  std::string output, errors;

  bool succeeded() const { return code == 0 && signal == 0; }
};

/// Runs a program, found in the PATH unless its name has a slash, with a text on its standard input.
/// @param arguments  the program and its arguments
/// @return           nothing if there is no such program
/// @throws c10::Error if the system cannot run it
std::optional<ProcessResult> run_process(std::vector<std::string> arguments, const std::string& input = "");

}  // namespace hopfield::examples
