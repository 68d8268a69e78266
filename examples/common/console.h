#pragma once

#include <string>

namespace hopfield::examples {

/// Prints a line on standard output at once. Nothing is thrown, so that a full disk or a closed pipe ends no work whose
/// results go to files: see print_failure().
void print(const std::string& line);
/// The system's words for what kept a line from being printed, or nothing.
std::string print_failure();

/// Prints a line on standard error, if that is possible.
void print_error(const std::string& line);

/// Where a standard stream was closed, the next file that is opened would take its place and receive what is printed.
void open_missing_streams();

}  // namespace hopfield::examples
