#include "common/palette.h"

#include "support/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace hopfield::examples {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

/// All values of red and green in steps, and pixels of pure blue that are as many.
Pixels gradient(int64_t side) {
  Pixels pixels{side, 2 * side, 3, {}};
  for (int64_t y = 0; y < 2 * side; ++y) {
    for (int64_t x = 0; x < side; ++x) {
      if (y < side) {
        pixels.values.push_back(static_cast<uint8_t>(x * 255 / (side - 1)));
        pixels.values.push_back(static_cast<uint8_t>(y * 255 / (side - 1)));
        pixels.values.push_back(40);
      } else {
        for (const uint8_t value : {0, 0, 255}) pixels.values.push_back(value);
      }
    }
  }
  return pixels;
}

TEST(Palette, KeepsFewColoursAsTheyAre) {
  const Pixels pixels{3, 1, 3, {9, 8, 7, 1, 2, 3, 9, 8, 7}};
  const auto image = reduce_colors(pixels);
  EXPECT_EQ(image.colors.size(), 2u);
  EXPECT_EQ(image.numbers[0], image.numbers[2]);
  EXPECT_THAT(image.colors[image.numbers[0]], ElementsAre(9, 8, 7));
  EXPECT_THAT(image.colors[image.numbers[1]], ElementsAre(1, 2, 3));
  const auto all = reduce_colors(gradient(15));  // 226 colours
  EXPECT_EQ(all.colors.size(), 226u);
  EXPECT_EQ(decode_png(encode_png(all), "a.png").values, gradient(15).values);
}

TEST(Palette, ReplacesColoursBySimilarOnes) {
  const auto pixels = gradient(128);
  const auto image = reduce_colors(pixels);
  EXPECT_EQ(image.colors.size(), 256u);
  const auto back = decode_png(encode_png(image), "a.png");
  ASSERT_EQ(back.values.size(), pixels.values.size());
  // 255 colours for a square of 256 x 256 shades are squares of 16 x 16 at best.
  double sum = 0;
  int worst = 0;
  for (size_t i = 0; i < pixels.values.size(); ++i) {
    const int difference = std::abs(int{pixels.values[i]} - int{back.values[i]});
    sum += difference;
    worst = std::max(worst, difference);
  }
  EXPECT_LT(sum / static_cast<double>(pixels.values.size()), 3.5);
  EXPECT_LT(worst, 48);
  EXPECT_THAT(std::vector<uint8_t>(back.values.end() - 3, back.values.end()), ElementsAre(0, 0, 255));
}

TEST(Palette, MakesTheSameFileEachTime) {
  EXPECT_EQ(encode_png(reduce_colors(gradient(100))), encode_png(reduce_colors(gradient(100))));
}

TEST(Palette, RefusesOtherPixels) {
  EXPECT_THAT(error_of([] { reduce_colors({1, 1, 1, {5}}); }), HasSubstr("expected pixels of 3 channels, got 1"));
  EXPECT_THAT(error_of([] { encode_png(PaletteImage{2, 2, {0}, {{0, 0, 0}}}); }), HasSubstr("expected 2x2 pixels"));
}

}  // namespace
}  // namespace hopfield::examples
