#include "common/gnuplot.h"

#include "fake_gnuplot.h"
#include "support/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hopfield::examples {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

TEST(Gnuplot, ReturnsWhatItPrints) {
  const FakeGnuplot fake("echo \"$1\"; while read -r line; do echo \"$line\"; done");
  EXPECT_EQ(run_gnuplot("a 'b'\nc\n"), "--default-settings\na 'b'\nc\n");
}

TEST(Gnuplot, MayBeMissing) {
  const FakeGnuplot none("");
  EXPECT_FALSE(run_gnuplot("print 1"));
}

TEST(Gnuplot, FailsWithItsMessage) {
  const auto failure = [](const std::string& script) {
    const FakeGnuplot fake(script);
    // More than the system buffers, so that the program ends before all of it is read.
    return error_of([] { run_gnuplot(std::string(1 << 22, '\n')); });
  };
  EXPECT_THAT(failure("echo 'plot foo' >&2; echo '   ^' >&2; echo '   line 3: undefined variable: foo' >&2; exit 1"),
              HasSubstr("but it ended with code 1: line 3: undefined variable: foo"));
  EXPECT_THAT(failure("exit 3"), HasSubstr("but it ended with code 3 and no message"));
  EXPECT_THAT(failure("kill -9 $$"), HasSubstr("but signal 9 ended it"));
  EXPECT_THAT(failure("exit 0"), HasSubstr("but it printed nothing"));
}

TEST(Gnuplot, MayPrintMuchBeforeItReads) {
  const FakeGnuplot fake(
      "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789012345678901234567890123456789 >&2; "
      "i=$((i+1)); done; while read -r line; do :; done; echo done");
  EXPECT_EQ(run_gnuplot(std::string(1 << 20, '\n')), "done\n");
}

TEST(Gnuplot, TakesTextsForTexts) {
  EXPECT_EQ(gnuplot_text("it's `ls` \"x\" \\n", 99), "'it''s `ls` \"x\" \\n'");
  EXPECT_EQ(gnuplot_text("one two three", 8), "'one two'.\"\\n\".'three'");
  EXPECT_EQ(gnuplot_text("a\nplot\tb", 99), "'a plot b'");
  EXPECT_EQ(gnuplot_text("\x01", 99), "''");
  EXPECT_EQ(gnuplot_text("", 99), "''");
}

}  // namespace
}  // namespace hopfield::examples
