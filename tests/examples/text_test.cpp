#include "common/text.h"

#include "common/options.h"
#include "usage_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

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

TEST(Text, IsSplitAtCommas) {
  EXPECT_THAT(split_at_commas("a,b c"), ElementsAre("a", "b c"));
  EXPECT_THAT(split_at_commas(",a,"), ElementsAre("", "a", ""));
  EXPECT_THAT(split_at_commas(""), ElementsAre(""));
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

TEST(Options, ReadListsOfNumbers) {
  std::vector<double> values{7};
  std::vector<int64_t> counts;
  CLI::App app;
  add_numbers(app, "--beta", values, kAboveZero, "Inverse temperatures");
  add_whole_numbers(app, "--counts", counts, 1, 9, "Numbers of patterns");
  const auto parse = [&](const std::string& option, const std::string& text) {
    return usage_error_of([&] { app.parse(std::vector<std::string>{text, option}); });
  };
  EXPECT_EQ(parse("--beta", "1,2.5e1"), "");
  EXPECT_THAT(values, ElementsAre(1.0, 25.0));
  EXPECT_EQ(parse("--counts", "3"), "");
  EXPECT_THAT(counts, ElementsAre(3));
  EXPECT_EQ(parse("--beta", "1,0"), "--beta: expected a number above 0, or several with commas between them, got '0'");
  EXPECT_EQ(parse("--counts", "1,,2"),
            "--counts: expected a whole number from 1 to 9, or several with commas between them, got an empty text");
  EXPECT_EQ(parse("--counts", "10"),
            "--counts: expected a whole number from 1 to 9, or several with commas between them, got '10'");
}

TEST(Options, KnowTheirChoices) {
  std::optional<std::string> value;
  CLI::App app;
  add_choice(app, "--rule", value, {"hebb", "storkey"}, "The rule");
  const auto parse = [&](const std::string& text) {
    return usage_error_of([&] { app.parse(std::vector<std::string>{text, "--rule"}); });
  };
  EXPECT_FALSE(value);
  EXPECT_EQ(parse("storkey"), "");
  EXPECT_EQ(value, "storkey");
  EXPECT_EQ(parse("stork"), "--rule: expected one of hebb, storkey, got 'stork'; did you mean storkey?");
  EXPECT_EQ(parse(""), "--rule: expected one of hebb, storkey, got an empty text");
}

}  // namespace
}  // namespace hopfield::examples
