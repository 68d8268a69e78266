#pragma once

#include "common/errors.h"

#include <string>

namespace hopfield::examples {

/// The message of the UsageError that a call throws, or nothing if it throws none.
template <typename Call>
std::string usage_error_of(const Call& call) {
  try {
    call();
  } catch (const UsageError& error) {
    return error.message;
  }
  return "";
}

}  // namespace hopfield::examples
