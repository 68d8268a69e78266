#pragma once

#include <c10/util/Exception.h>

#include <string>

namespace hopfield::data {

/// The sentence of the c10::Error that the call throws.
template <typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
}

}  // namespace hopfield::data
