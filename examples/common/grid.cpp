#include "grid.h"

#include "font.h"
#include "png.h"
#include "text.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

namespace hopfield::examples {
namespace {

constexpr int64_t kFrame = 3;                      // the width of a frame; every cell has room for one
constexpr int64_t kShortLine = 8, kLongLine = 16;  // characters, at which captions of columns and of rows are broken
constexpr Color kLine{0.8f, 0.8f, 0.8f};

/// The image of a cell as [height, width, 3] float32 on the CPU, from 0 to 1.
at::Tensor with_colour(const at::Tensor& image) {
  TORCH_CHECK(image.dim() == 2 || (image.dim() == 3 && (image.size(2) == 1 || image.size(2) == 3)),
              "hopfield::examples::draw_grid: expected images [height, width] or [height, width, 1 or 3], got ",
              image.sizes());
  const auto values = image.detach().to(at::kCPU, at::kFloat).clamp(0, 1);
  return (values.dim() == 2 ? values.unsqueeze(2) : values).expand({-1, -1, 3});
}

/// Height and width of all images.
std::array<int64_t, 2> size_of_images(const Grid& grid) {
  std::optional<std::array<int64_t, 2>> size;
  for (const auto& row : grid.rows) {
    for (const auto& cell : row) {
      if (!cell.image.defined()) continue;
      const auto image = with_colour(cell.image);
      if (!size) size = {image.size(0), image.size(1)};
      TORCH_CHECK(image.size(0) == (*size)[0] && image.size(1) == (*size)[1],
                  "hopfield::examples::draw_grid: expected images of the same size, got ", (*size)[1], "x", (*size)[0],
                  " and ", image.size(1), "x", image.size(0), " pixels; resize them first");
    }
  }
  TORCH_CHECK(size && (*size)[0] > 0 && (*size)[1] > 0,
              "hopfield::examples::draw_grid: expected at least one image with pixels, got none");
  TORCH_CHECK((*size)[0] <= kMostPixels / grid.scale && (*size)[1] <= kMostPixels / grid.scale,
              "hopfield::examples::draw_grid: expected a picture of at most ", kMostPixels, " pixels, got images of ",
              (*size)[1], "x", (*size)[0], " pixels at a scale of ", grid.scale, "; choose a smaller scale");
  return *size;
}

void check(const Grid& grid, size_t columns) {
  TORCH_CHECK(grid.scale >= 1 && grid.text_scale >= 1 && grid.gap >= 0,
              "hopfield::examples::draw_grid: expected a scale and a text_scale of at least 1 and a gap of at least 0, "
              "got ",
              grid.scale, ", ", grid.text_scale, " and ", grid.gap);
  TORCH_CHECK(grid.column_captions.size() <= columns && grid.row_captions.size() <= grid.rows.size(),
              "hopfield::examples::draw_grid: expected at most one caption for each of ", columns, " columns and ",
              grid.rows.size(), " rows, got ", grid.column_captions.size(), " and ", grid.row_captions.size());
}

/// The lines of a caption, and the room that they need.
struct Caption {
  std::vector<std::string> lines;
  int64_t width = 0, height = 0;
};

/// Captions whose lines are broken at a number of characters.
std::vector<Caption> captions_of(const std::vector<std::string>& texts, int64_t scale, int64_t characters) {
  std::vector<Caption> captions;
  for (const auto& text : texts) {
    Caption caption{break_lines(text, static_cast<size_t>(characters))};
    for (const auto& line : caption.lines) caption.width = std::max(caption.width, text_width(line, scale));
    caption.height = static_cast<int64_t>(caption.lines.size()) * line_height(scale);
    captions.push_back(std::move(caption));
  }
  return captions;
}

/// Draws the lines of a caption, each in the middle of `width` pixels, or at their left if `width` is 0.
void draw_caption(const at::Tensor& picture, int64_t top, int64_t left, int64_t width, const Caption& caption,
                  int64_t scale) {
  for (const auto& line : caption.lines) {
    draw_text(picture, top, left + std::max<int64_t>(width - text_width(line, scale), 0) / 2, line, scale);
    top += line_height(scale);
  }
}

/// Where rows or columns begin, and at the end where the picture does.
std::vector<int64_t> positions_of(const std::vector<int64_t>& sizes, int64_t begin, int64_t gap) {
  std::vector<int64_t> positions{begin};
  for (const auto size : sizes) positions.push_back(positions.back() + size + gap);
  return positions;
}

void fill(const at::Tensor& picture, int64_t top, int64_t left, int64_t height, int64_t width, const Color& color) {
  const auto values = at::tensor({color[0], color[1], color[2]});
  picture.narrow(0, top, height).narrow(1, left, width).copy_(values.expand({height, width, 3}));
}

void draw_cell(const at::Tensor& picture, int64_t top, int64_t left, const Grid::Cell& cell, int64_t scale) {
  const auto image = with_colour(cell.image).repeat_interleave(scale, 0).repeat_interleave(scale, 1);
  const auto height = image.size(0), width = image.size(1), frame = cell.frame ? kFrame : 1;
  fill(picture, top - frame, left - frame, height + 2 * frame, width + 2 * frame, cell.frame.value_or(kLine));
  picture.narrow(0, top, height).narrow(1, left, width).copy_(image);
}

}  // namespace

at::Tensor draw_grid(const Grid& grid) {
  size_t columns = 0;
  for (const auto& row : grid.rows) columns = std::max(columns, row.size());
  check(grid, columns);
  const auto [image_height, image_width] = size_of_images(grid);
  const auto height = image_height * grid.scale, width = image_width * grid.scale;

  const auto above =
      captions_of(grid.column_captions, grid.text_scale, std::max(kShortLine, characters_in(width, grid.text_scale)));
  const auto beside = captions_of(grid.row_captions, grid.text_scale, kLongLine);
  std::vector<int64_t> widths(columns, width + 2 * kFrame), heights(grid.rows.size(), height + 2 * kFrame);
  int64_t header = 0, strip = 0;
  for (size_t i = 0; i < above.size(); ++i) {
    // Half a character at both sides keeps captions apart.
    widths[i] = std::max(widths[i], above[i].width + text_width(" ", grid.text_scale));
    header = std::max(header, above[i].height);
  }
  for (size_t i = 0; i < beside.size(); ++i) {
    heights[i] = std::max(heights[i], beside[i].height);
    strip = std::max(strip, beside[i].width + grid.gap);
  }
  const auto lefts = positions_of(widths, grid.gap + strip, grid.gap);
  const auto tops = positions_of(heights, grid.gap + header, grid.gap);
  TORCH_CHECK(tops.back() <= kMostPixels / lefts.back(),
              "hopfield::examples::draw_grid: expected a picture of at most ", kMostPixels, " pixels, got ",
              lefts.back(), "x", tops.back(), "; choose a smaller scale");

  const auto picture = at::ones({tops.back(), lefts.back(), 3});
  for (size_t column = 0; column < above.size(); ++column) {
    const auto top = grid.gap + header - above[column].height;  // the last line stands just above the images
    draw_caption(picture, top, lefts[column], widths[column], above[column], grid.text_scale);
  }
  for (size_t row = 0; row < grid.rows.size(); ++row) {
    if (row < beside.size()) {
      const auto top = tops[row] + (heights[row] - beside[row].height) / 2;
      draw_caption(picture, top, grid.gap, 0, beside[row], grid.text_scale);
    }
    for (size_t column = 0; column < grid.rows[row].size(); ++column) {
      const auto& cell = grid.rows[row][column];
      if (!cell.image.defined()) continue;
      draw_cell(picture, tops[row] + (heights[row] - height) / 2, lefts[column] + (widths[column] - width) / 2, cell,
                grid.scale);
    }
  }
  return picture;
}

}  // namespace hopfield::examples
