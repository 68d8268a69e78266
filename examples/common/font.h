#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace hopfield::examples {

/// A small font for the captions of images: the printable characters of ASCII, each 5 pixels wide and 7 high, with one
/// pixel between them. g, p, q and y reach 2 pixels below the others. Characters that the font does not have are drawn
/// as question marks.

/// The height of a line of text, including the space below it, and the width of a text, in pixels.
int64_t line_height(int64_t scale);
int64_t text_width(const std::string& text, int64_t scale);
/// How many characters fit into a width.
int64_t characters_in(int64_t width, int64_t scale);

/// Draws a text in black into an image [height, width, channels] of floats on the CPU. What lies outside the image is
/// left out. @param scale  the side of each of the font's pixels, in pixels of the image
void draw_text(const at::Tensor& image, int64_t top, int64_t left, const std::string& text, int64_t scale);

}  // namespace hopfield::examples
