#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::examples {

/// Red, green and blue, from 0 to 1.
using Color = std::array<float, 3>;
/// Colours of frames, which readers who are colour-blind can tell apart, too.
constexpr Color kGreen{0.00f, 0.62f, 0.45f}, kRed{0.84f, 0.37f, 0.00f};

/// Images in rows and columns on white ground, with captions.
struct Grid {
  struct Cell {
    at::Tensor image{};  ///< [height, width, 1 or 3] or [height, width], any real dtype; undefined: left empty
    std::optional<Color> frame{};  ///< if not set, a thin grey line
  };

  std::vector<std::vector<Cell>> rows;       ///< all images have the same height and width
  std::vector<std::string> column_captions;  ///< above the columns: none, or at most one for each column
  std::vector<std::string> row_captions;     ///< at the left of the rows: none, or at most one for each row
  int64_t scale = 1;                         ///< the side of the square that each pixel becomes
  int64_t gap = 8;                           ///< the space between cells, in pixels of the result
  int64_t text_scale = 2;                    ///< the size of the captions; 1 is 7 pixels high
};

/// Draws a grid: [height, width, 3] float32, for write_image(). Captions are broken at blanks; a column is as wide as
/// the widest word of its caption, so that nothing is cut. Characters other than those of ASCII are drawn as question
/// marks.
/// @throws c10::Error if there is no image, if the images differ in size, if there are more captions than columns or
/// rows,
///         if `scale` or `text_scale` is less than 1 or `gap` less than 0, or if the result has more than 2^25 pixels
at::Tensor draw_grid(const Grid& grid);

}  // namespace hopfield::examples
