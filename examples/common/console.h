#pragma once

#include <string>

namespace hopfield::examples {

/// Prints a line on standard output and flushes it. Never throws: a full disk or a closed pipe must not end a run whose
/// results go to files. See print_failure().
void print(const std::string& line);
/// The system's error message for the first line that could not be printed, or an empty string.
std::string print_failure();

/// Prints a line on standard error. Failures are ignored.
void print_error(const std::string& line);

/// Opens /dev/null in place of standard streams that are closed. Otherwise the next file that the program opens would
/// get the number of that stream and receive what is printed.
void open_missing_streams();

}  // namespace hopfield::examples
