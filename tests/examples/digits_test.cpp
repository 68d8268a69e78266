#include "common/digits.h"

#include "support/errors.h"
#include "temporary_folder.h"
#include "usage_error.h"

#include <ATen/ATen.h>
#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace hopfield::examples {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

/// A row of the file: 64 pixels of the same value, and a label.
std::string row(const std::string& pixel, const std::string& label, int pixels = 64) {
  std::string text;
  for (int i = 0; i < pixels; ++i) text += pixel + ",";
  return text + label + "\n";
}

TEST(Digits, AreReadFromTheirFile) {
  const auto path = std::string(HOPFIELD_DATA_DIR) + "/digits.csv";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no digits.csv: run scripts/bootstrap.sh --tests";
  ::unsetenv("HOPFIELD_DATA");
  EXPECT_EQ(digits_path("--data", "digits"), path);
  const auto [images, labels] = digits(path);
  ASSERT_EQ(images.sizes(), at::IntArrayRef({1797, 8, 8}));
  ASSERT_EQ(labels.sizes(), at::IntArrayRef({1797}));
  EXPECT_EQ(images.scalar_type(), at::kFloat);
  EXPECT_EQ(labels.scalar_type(), at::kLong);
  EXPECT_TRUE(labels.slice(0, 0, 5).equal(torch::tensor({0, 1, 2, 3, 4})));
  EXPECT_TRUE(images[0][0].equal(torch::tensor({0.0f, 0.0f, 5.0f, 13.0f, 9.0f, 1.0f, 0.0f, 0.0f}) / 16));
  EXPECT_EQ(images.max().item<float>(), 1.0f);
  const auto counts = torch::tensor({178, 182, 177, 183, 181, 182, 181, 179, 174, 180});
  EXPECT_TRUE(labels.bincount().equal(counts));
}

TEST(Digits, AreFoundByPathAndByName) {
  const TemporaryFolder folder;
  const auto file = folder.write("mine.csv", "");
  EXPECT_EQ(digits_path("--data", file), file);
  EXPECT_THAT(usage_error_of([&] { digits_path("--data", folder / "none.csv"); }),
              HasSubstr("--data: expected a CSV file or 'digits', got '"));
  ::setenv("HOPFIELD_DATA", folder.path().c_str(), 1);
  EXPECT_THAT(usage_error_of([&] { digits_path("--data", "digits"); }), HasSubstr("scripts/bootstrap.sh --tests"));
  const auto ours = folder.write("digits.csv", "");
  EXPECT_EQ(digits_path("--data", "digits"), ours);
  ::unsetenv("HOPFIELD_DATA");
}

TEST(Digits, SayWhatIsWrongInTheirFile) {
  const TemporaryFolder folder;
  const auto refusal = [&](const std::string& content) {
    const auto path = folder.write("digits.csv", content);
    return error_of([&] { digits(path); });
  };
  EXPECT_EQ(refusal(row("16", "9") + row("0", "0")), "");
  EXPECT_THAT(refusal(row("1", "2", 63)), HasSubstr("expected rows of 64 pixels and a label, got 1 rows of 63"));
  EXPECT_THAT(refusal(row("17", "2")), HasSubstr("expected pixels from 0 to 16, got 17 in '"));
  EXPECT_THAT(refusal(row("-1", "2")), HasSubstr("expected pixels from 0 to 16, got -1 in '"));
  EXPECT_THAT(refusal(row("1", "2") + row("1", "10")), HasSubstr("expected labels from 0 to 9, got 10 in '"));
  EXPECT_THAT(refusal(row("1", "2.5")), HasSubstr("expected labels from 0 to 9, got 2.5 in '"));
  EXPECT_NE(refusal("one two three"), "");
}

}  // namespace
}  // namespace hopfield::examples
