#pragma once

#include <c10/util/Exception.h>

#include <functional>
#include <string>

namespace hopfield::examples {

/// Exit codes of every program here.
constexpr int kDone = 0, kFailed = 1, kWrongCall = 2;
constexpr auto kExitCodes =
    "Exit codes: 0 done; 1 could not be done, or was interrupted; 2 wrong call or wrong file, nothing was done.";

/// A wrong call or a wrong file, said in one sentence: exit code 2. Anything else that is thrown: exit code 1.
struct UsageError {
  std::string message;
};

/// What a user is told of an error: one line without names of C++ and places in its sources.
std::string plain_message(const std::exception& error);

/// Runs what reads a user's file: whatever it throws is a UsageError then.
/// @param option  named before the message unless it is empty
template <typename Read>
auto reading(const std::string& option, const Read& read) {
  try {
    return read();
  } catch (const c10::Error& error) {
    throw UsageError{(option.empty() ? "" : option + ": ") + plain_message(error)};
  }
}
template <typename Read>
auto reading(const Read& read) {
  return reading("", read);
}

/// Runs a program's work and turns whatever it throws into a line on standard error and an exit code. Output that could
/// not be printed makes the program fail, too.
int run_program(const std::string& name, const std::function<int()>& work);

}  // namespace hopfield::examples
