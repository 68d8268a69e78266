#pragma once

#include <c10/util/Exception.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace hopfield::testing {

/// The message of the c10::Error that a call throws, or nothing if it throws none. Other exceptions pass.
template <typename Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "";
}

/// One wrong call and what its message must contain.
struct WrongCall {
  const char* name;
  std::function<void()> call;
  std::vector<std::string> parts;
};

/// The call throws c10::Error in one sentence that contains every part.
inline void expect_error(const WrongCall& wrong) {
  SCOPED_TRACE(wrong.name);
  try {
    const auto message = error_of(wrong.call);
    for (const auto& part : wrong.parts) EXPECT_THAT(message, ::testing::HasSubstr(part));
    EXPECT_THAT(message, ::testing::HasSubstr("expected"));
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "expected a c10::Error, got " << error.what();
  }
}

}  // namespace hopfield::testing
