#pragma once

#include <c10/util/Exception.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace hopfield::testing {

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
    wrong.call();
    ADD_FAILURE() << "expected an error, got none";
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    for (const auto& part : wrong.parts) EXPECT_THAT(message, ::testing::HasSubstr(part));
    EXPECT_THAT(message, ::testing::HasSubstr("expected"));
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "expected a c10::Error, got " << error.what();
  }
}

}  // namespace hopfield::testing
