#include "common/text.h"

#include "common/options.h"
#include "usage_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hopfield::examples {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Text, IsBrokenAtBlanks) {
  EXPECT_THAT(break_lines("one two  three", 7), ElementsAre("one two", "three"));
  EXPECT_THAT(break_lines("one two", 6), ElementsAre("one", "two"));
  EXPECT_THAT(break_lines("a incomprehensible b", 3), ElementsAre("a", "incomprehensible", "b"));
  EXPECT_THAT(break_lines(" \n", 3), IsEmpty());
  EXPECT_THAT(break_lines("\u03B2\u03B2 \u03B2\u03B2", 5), ElementsAre("\u03B2\u03B2 \u03B2\u03B2"));
}

TEST(Text, EndingsAreInLowerCase) {
  EXPECT_EQ(ending_of("a/b.c/Picture.PNG"), ".png");
  EXPECT_EQ(ending_of("a.b/picture"), "");
  EXPECT_EQ(ending_of(".png"), "");
}

TEST(Options, CheckTheEndingsOfFiles) {
  std::string value;
  CLI::App app;
  add_file(app, "--plot", value, {".png", ".svg"}, "Chart of the results");
  const auto parse = [&](const std::string& text) {
    return usage_error_of([&] { app.parse(std::vector<std::string>{text, "--plot"}); });
  };
  EXPECT_EQ(parse("a.Svg"), "");
  EXPECT_EQ(value, "a.Svg");
  EXPECT_EQ(parse("a.jpg"), "--plot: expected a file whose name ends in .png or .svg, got 'a.jpg'");
  EXPECT_EQ(parse(""), "--plot: expected a file whose name ends in .png or .svg, got an empty text");
}

}  // namespace
}  // namespace hopfield::examples
