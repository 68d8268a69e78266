#pragma once

#include <c10/util/Exception.h>

#include <functional>
#include <string>

namespace hopfield::examples {

/// The exit codes of all programs here.
constexpr int kDone = 0, kFailed = 1, kWrongCall = 2;
constexpr auto kExitCodes =
    "Exit codes: 0 done; 1 could not be done, or was interrupted; 2 wrong call or wrong file, nothing was done.";

/// Thrown for a wrong call or a wrong file; the message is one sentence. It makes the program end with exit code 2, all
/// other exceptions with exit code 1.
struct UsageError {
  std::string message;
};

/// The message of an error for a user: one line, without C++ names and places in source files.
std::string plain_message(const std::exception& error);

/// Calls a function that reads a user's file. A c10::Error that it throws becomes a UsageError.
/// @param option  begins the message
template <typename Read>
auto reading(const std::string& option, const Read& read) {
  try {
    return read();
  } catch (const c10::Error& error) {
    throw UsageError{option + ": " + plain_message(error)};
  }
}

/// Runs the work of a program and turns whatever it throws into a line on standard error and an exit code. The program
/// fails, too, if something could not be printed.
int run_program(const std::string& name, const std::function<int()>& work);

}  // namespace hopfield::examples
