#include "common/grid.h"

#include "common/font.h"
#include "support/errors.h"

#include <ATen/ATen.h>
#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hopfield::examples {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

constexpr int64_t kRoom = 3;  // for a frame, at each side of an image

at::Tensor color_at(const at::Tensor& picture, int64_t y, int64_t x) { return picture[y][x]; }
at::Tensor tensor_of(const Color& color) { return torch::tensor({color[0], color[1], color[2]}); }
at::Tensor grey(float value) { return at::full({3}, value); }

/// Where a picture has pixels that are nearly black: [top, bottom), [left, right).
struct Box {
  int64_t top, bottom, left, right;
};
Box box_of_black(const at::Tensor& picture) {
  const auto places = (picture.amax(2) < 0.1).nonzero();
  const auto least = std::get<0>(places.min(0)), most = std::get<0>(places.max(0));
  return {least[0].item<int64_t>(), most[0].item<int64_t>() + 1, least[1].item<int64_t>(), most[1].item<int64_t>() + 1};
}

TEST(Grid, EnlargesPixelsToSquares) {
  Grid grid;
  const auto image = torch::tensor({{0.2f, 0.4f, 0.6f}, {0.8f, 1.0f, 0.3f}});
  grid.rows = {{{image}}};
  grid.scale = 4;
  grid.gap = 5;
  const auto picture = draw_grid(grid);
  const int64_t begin = grid.gap + kRoom;
  ASSERT_EQ(picture.sizes(), at::IntArrayRef({8 + 2 * begin, 12 + 2 * begin, 3}));
  const auto inner = picture.slice(0, begin, begin + 8).slice(1, begin, begin + 12);
  EXPECT_TRUE(inner.equal(image.repeat_interleave(4, 0).repeat_interleave(4, 1).unsqueeze(2).expand({8, 12, 3})));
  EXPECT_TRUE(color_at(picture, begin - 1, begin).equal(grey(0.8f)));  // the line around it
  EXPECT_TRUE(color_at(picture, begin - 2, begin).equal(grey(1)));
}

TEST(Grid, PutsImagesInRowsAndColumns) {
  Grid grid;
  grid.gap = 2;
  const auto cell = [](float value) { return Grid::Cell{at::full({4, 4}, value)}; };
  grid.rows = {{cell(0.1f), cell(0.2f), cell(0.3f)}, {cell(0.4f), {}, cell(0.6f)}, {cell(0.7f)}};
  const auto picture = draw_grid(grid);
  const int64_t pitch = 4 + 2 * kRoom + 2, begin = 2 + kRoom;
  ASSERT_EQ(picture.sizes(), at::IntArrayRef({3 * pitch + 2, 3 * pitch + 2, 3}));
  const std::vector<std::vector<float>> expected{{0.1f, 0.2f, 0.3f}, {0.4f, 1, 0.6f}, {0.7f, 1, 1}};
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t column = 0; column < 3; ++column) {
      const auto inner = picture.narrow(0, begin + row * pitch, 4).narrow(1, begin + column * pitch, 4);
      EXPECT_TRUE((inner == expected[row][column]).all().item<bool>()) << row << ", " << column;
    }
  }
}

TEST(Grid, DrawsFrames) {
  Grid grid;
  grid.gap = 4;
  const auto image = at::zeros({5, 5, 1});
  grid.rows = {{{image, kGreen}, {image, kRed}}};
  const auto picture = draw_grid(grid);
  const int64_t pitch = 5 + 2 * kRoom + 4;
  for (int64_t i = 0; i < 5 + 2 * kRoom; ++i) {
    EXPECT_TRUE(color_at(picture, 4, 4 + i).equal(tensor_of(kGreen)));
    EXPECT_TRUE(color_at(picture, 4 + i, 4 + kRoom - 1).equal(tensor_of(kGreen)));
    EXPECT_TRUE(color_at(picture, 4 + 4 + 2 * kRoom, 4 + pitch + i).equal(tensor_of(kRed)));
  }
  EXPECT_TRUE(color_at(picture, 4 + kRoom, 4 + kRoom).equal(grey(0)));
  EXPECT_TRUE(color_at(picture, 3, 4).equal(grey(1)));
}

TEST(Grid, KeepsColours) {
  Grid grid;
  const auto image = torch::tensor({0.5f, 2.0f, -1.0f}).view({1, 1, 3});
  grid.rows = {{{image}}};
  const auto picture = draw_grid(grid);
  EXPECT_TRUE(color_at(picture, 8 + kRoom, 8 + kRoom).equal(torch::tensor({0.5f, 1.0f, 0.0f})));
}

TEST(Grid, MakesRoomForCaptions) {
  Grid grid;
  grid.text_scale = 1;
  grid.rows = {{{at::ones({8, 8})}, {at::ones({8, 8})}}};
  grid.column_captions = {"", "a-very-long-word and more"};
  const auto wide = draw_grid(grid);
  const auto word = text_width("a-very-long-word", 1), blank = text_width(" ", 1);
  EXPECT_EQ(wide.size(1), 3 * 8 + (8 + 2 * kRoom) + word + blank);
  // Two lines above the images: the long word, and the two others, which are short enough to be beside each other.
  EXPECT_EQ(wide.size(0), 2 * 8 + 8 + 2 * kRoom + 2 * line_height(1));
  const auto box = box_of_black(wide);
  const auto left = 2 * 8 + 8 + 2 * kRoom + blank / 2;
  EXPECT_EQ(box.left, left);
  EXPECT_EQ(box.right, left + word);
  EXPECT_GE(box.top, 8);

  grid.column_captions = {};
  grid.row_captions = {"HHH"};
  const auto beside = draw_grid(grid);
  EXPECT_EQ(beside.size(1), 4 * 8 + 2 * (8 + 2 * kRoom) + text_width("HHH", 1));
  const auto caption = box_of_black(beside);
  EXPECT_EQ(caption.left, 8);
  EXPECT_EQ(caption.right, 8 + text_width("HHH", 1));
  EXPECT_EQ(caption.bottom - caption.top, 7);
}

TEST(Grid, SaysWhatIsWrong) {
  const auto refusal = [](const Grid& grid) { return error_of([&] { draw_grid(grid); }); };
  const Grid::Cell small{at::ones({2, 2})}, large{at::ones({2, 3})};
  Grid grid;
  EXPECT_THAT(refusal(grid), HasSubstr("expected at least one image with pixels, got none"));
  grid.rows = {{{}, {}}};
  EXPECT_THAT(refusal(grid), HasSubstr("expected at least one image with pixels, got none"));
  grid.rows = {{small}, {large}};
  EXPECT_THAT(refusal(grid), HasSubstr("expected images of the same size, got 2x2 and 3x2 pixels"));
  grid.rows = {{{at::ones({2, 2, 4})}}};
  EXPECT_THAT(refusal(grid), HasSubstr("got [2, 2, 4]"));
  grid.rows = {{small}};
  grid.column_captions = {"a", "b"};
  EXPECT_THAT(refusal(grid), HasSubstr("at most one caption for each of 1 columns and 1 rows, got 2 and 0"));
  grid.column_captions = {};
  for (const int64_t scale : {int64_t{4000}, int64_t{1} << 40, std::numeric_limits<int64_t>::max()}) {
    grid.scale = scale;
    EXPECT_THAT(refusal(grid), HasSubstr("expected a picture of at most 33554432 pixels")) << scale;
  }
  grid.scale = 0;
  EXPECT_THAT(refusal(grid), HasSubstr("expected a scale and a text_scale of at least 1"));
}

TEST(Font, HasAGlyphForEachPrintableCharacter) {
  std::vector<at::Tensor> glyphs;
  for (char character = ' '; character <= '~'; ++character) {
    const auto image = at::ones({9, 5, 1});
    draw_text(image, 0, 0, std::string(1, character), 1);
    EXPECT_EQ((image == 0).any().item<bool>(), character != ' ') << character;
    for (const auto& other : glyphs) EXPECT_FALSE(other.equal(image)) << character;
    glyphs.push_back(image);
  }
}

TEST(Font, DrawsOtherCharactersAsQuestionMarks) {
  EXPECT_EQ(text_width("\u03B2=1", 1), text_width("?=1", 1));
  const auto image = at::ones({7, 5, 1}), expected = at::ones({7, 5, 1});
  draw_text(image, 0, 0, "\u03B2", 1);
  draw_text(expected, 0, 0, "?", 1);
  EXPECT_TRUE(image.equal(expected));
  EXPECT_EQ(text_width("\xFF\n", 1), text_width("??", 1));
  EXPECT_EQ(text_width("", 3), 0);
}

TEST(Font, LeavesOutWhatIsOutside) {
  const auto image = at::ones({9, 9, 3});
  draw_text(image, -3, -3, "HHHHHH", 2);
  draw_text(image, 100, 100, "H", 1);
  EXPECT_TRUE((image == 0).any().item<bool>());
}

}  // namespace
}  // namespace hopfield::examples
