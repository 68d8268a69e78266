#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::examples {

/// From the first to the last value that an axis shows. What is not set follows from the data.
struct AxisRange {
  std::optional<double> least, most;
};

struct Axis {
  std::string label;
  bool logarithmic = false;  ///< values that are not above 0 are then left out
  AxisRange range{};
};

enum class SeriesStyle { lines, points, both, dashed, thin };  ///< thin: lines, for many of them
enum class SpreadStyle { bars, band };

/// Points (x, y), in the order in which lines join them. Where x or y is not finite, lines are interrupted.
struct Series {
  std::string name;  ///< in the legend; if empty, the series is not in it
  std::vector<double> x, y;
  SeriesStyle style = SeriesStyle::lines;
  std::vector<double> low{}, high{};  ///< an interval around each y, or both empty
  SpreadStyle spread = SpreadStyle::bars;
  /// The number of the colour, from 0; series of the same number look as if they belonged together. If not set, the
  /// position among the chart's series. There are seven colours, which readers who are colour-blind can tell apart.
  std::optional<int64_t> color{};
};

/// Values over the plane, drawn below the series.
struct HeatMap {
  /// [rows, columns] of any real dtype, at least 2 each. Row 0 is at y_first, column 0 at x_first. Values that are not
  /// finite are left white.
  at::Tensor values;
  double x_first = 0, x_last = 1, y_first = 0, y_last = 1;
  std::string label;     ///< of the colour scale
  int64_t contours = 0;  ///< the number of contour lines, at equal steps between the least and the greatest value
};

/// One panel: a title, axes, and series or a heat map or both.
struct Chart {
  std::string title;
  Axis x, y;
  std::vector<Series> series;
  std::optional<HeatMap> heat_map;  ///< its axes must not be logarithmic
  bool equal_units = false;         ///< whether a unit has the same length on both axes
};

/// Draws charts side by side (four of them in two rows, more in rows of three) into one file, which is replaced as a
/// whole or not at all: SVG, or PNG of at most 256 colours. The program gnuplot draws them. Where it is not installed,
/// the data and a script that draws them are written instead, beside `path`: chart.gnuplot and chart.dat for chart.png.
///
///     Chart chart;
///     chart.title = "Retrieval errors";
///     chart.x = {"stored patterns", /*logarithmic=*/true};
///     chart.series.push_back({"beta 8", {16, 32, 64}, {0.0, 0.01, 0.2}, SeriesStyle::both});
///     const auto remark = write_charts("errors.png", {chart});
///
/// @return an empty text, or a sentence for the user that says what was written instead, and why
/// @throws c10::Error if the path ends neither in .png nor in .svg, if a chart has nothing to show, if the parts of a
///         series differ in length, if gnuplot fails (with its message), or if a file cannot be written; a
///         chart.gnuplot or chart.dat that these programs did not write is not replaced
std::string write_charts(const std::string& path, const std::vector<Chart>& charts);

}  // namespace hopfield::examples
