#include "chart_script.h"

#include "gnuplot.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace hopfield::examples {
namespace {

// The colours of M. Okabe and K. Ito, Color Universal Design (2008), without the yellow, which is too pale for lines.
constexpr std::array kColors{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#303030"};
constexpr std::array kPoints{7, 5, 9, 13, 11, 15, 6};  // filled symbols, and then a hollow circle
constexpr int kHollow = 6;
// From dark blue, so that wells look deep, to nearly white.
constexpr auto kPalette =
    "maxcolors 64 defined (0 '#0B2C56', 1 '#1F5A94', 2 '#4A8DBF', 3 '#8FBFDD', 4 '#C9E0EF', 5 '#F4F8FB')";
constexpr size_t kTitleLine = 64, kLabelLine = 50, kAnyLine = std::numeric_limits<size_t>::max();

/// An interval of an axis or of a colour scale.
struct Bounds {
  double least, most;
};

std::string number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : "NaN"; }

std::string interval(const Bounds& bounds) { return fmt::format("[{}:{}]", number(bounds.least), number(bounds.most)); }

bool is_shown(double value, const Axis& axis) { return std::isfinite(value) && (!axis.logarithmic || value > 0); }

/// The bounds of the points of all series. `values_of(series, i)` are the values of the i-th point on `axis`.
template <typename Values>
Bounds bounds_of_series(const Chart& chart, const Axis& axis, const Values& values_of) {
  std::optional<Bounds> bounds;
  for (const auto& series : chart.series) {
    for (size_t i = 0; i < series.x.size(); ++i) {
      if (!is_shown(series.x[i], chart.x) || !is_shown(series.y[i], chart.y)) continue;
      for (const double value : values_of(series, i)) {
        if (!is_shown(value, axis)) continue;
        bounds = bounds ? Bounds{std::min(bounds->least, value), std::max(bounds->most, value)} : Bounds{value, value};
      }
    }
  }
  TORCH_CHECK(bounds,
              "hopfield::examples::write_charts: expected a chart with at least one point, got none that can be "
              "shown; points must be finite, and above 0 on logarithmic axes");
  // Logarithmic axes get a little room at both ends, so that points do not stand on the frame.
  const double room = axis.logarithmic ? 1.15 : 1;
  return {bounds->least / room, bounds->most * room};
}

/// What an axis of a heat map shows: values belong to the middles of cells, so half a cell lies beyond each end.
Bounds bounds_of_cells(double first, double last, int64_t count) {
  const double half = (last - first) / static_cast<double>(count - 1) / 2;
  return {std::min(first - half, last + half), std::max(first - half, last + half)};
}

Bounds x_bounds(const Chart& chart) {
  if (const auto& map = chart.heat_map) return bounds_of_cells(map->x_first, map->x_last, map->values.size(1));
  return bounds_of_series(chart, chart.x, [](const Series& series, size_t i) { return std::vector{series.x[i]}; });
}

Bounds y_bounds(const Chart& chart) {
  if (const auto& map = chart.heat_map) return bounds_of_cells(map->y_first, map->y_last, map->values.size(0));
  return bounds_of_series(chart, chart.y, [](const Series& series, size_t i) {
    if (series.low.empty()) return std::vector{series.y[i]};
    return std::vector{series.y[i], series.low[i], series.high[i]};
  });
}

/// Marks for a short logarithmic axis: 1, 2 and 5 of each decade or, where these would be too few, at equal steps.
std::vector<std::string> marks_of_short_axis(const Bounds& bounds) {
  constexpr double kFewMarks = 8, kSteps = 5;
  const auto decade_of = [](double value) { return std::pow(10, std::floor(std::log10(value))); };
  std::vector<std::string> marks;
  const auto add = [&](double mark) {
    if (mark >= bounds.least && mark <= bounds.most) marks.push_back(fmt::format("{:g}", mark));
  };
  if (bounds.most / bounds.least > kFewMarks) {
    for (double decade = decade_of(bounds.least); decade <= bounds.most; decade *= 10) {
      for (const int digit : {1, 2, 5}) add(digit * decade);
    }
    return marks;
  }
  const auto wanted = (bounds.most - bounds.least) / kSteps, decade = decade_of(wanted);
  const auto step = decade * (wanted >= 5 * decade ? 5 : wanted >= 2 * decade ? 2 : 1);
  for (double i = std::ceil(bounds.least / step); i * step <= bounds.most; ++i) add(i * step);
  return marks;
}

std::string marks_of_logarithm(const std::string& name, const Bounds& bounds) {
  constexpr double kFewDecades = 500, kReadableLeast = 1e-3, kReadableMost = 99999;
  std::string commands = "set logscale " + name + "\n";
  // Where there are hardly any powers of ten, gnuplot would leave the axis nearly bare.
  if (bounds.most / bounds.least <= kFewDecades) {
    commands += fmt::format("set {}tics ({})\n", name, fmt::join(marks_of_short_axis(bounds), ", "));
  }
  const bool is_readable = bounds.least >= kReadableLeast && bounds.most <= kReadableMost;
  return commands + fmt::format("set format {} '{}'\n", name, is_readable ? "%g" : "10^{%T}");
}

/// The commands for the range and the marks of the axis `name`, which is x or y.
/// @param exact  whether the axis ends at its bounds, and not at the next mark beyond them
std::string axis_commands(const std::string& name, const Axis& axis, const Bounds& bounds, bool exact) {
  const auto& [given_least, given_most] = axis.range;
  const Bounds shown{given_least.value_or(bounds.least), given_most.value_or(bounds.most)};
  TORCH_CHECK(shown.least <= shown.most, "hopfield::examples::write_charts: expected a range that shows a part of the ",
              "data for the ", name, " axis, got ", shown.least, " to ", shown.most, ", where one end is the data's");
  // gnuplot would leave out marks at the very ends of logarithmic axes, which rounding puts outside.
  const double room = axis.logarithmic ? 1 + 1e-9 : 1;
  const auto commands =
      fmt::format("set {}range [{}:{}]\n", name, given_least || exact ? number(shown.least / room) : "*",
                  given_most || exact ? number(shown.most * room) : "*");
  return axis.logarithmic ? commands + marks_of_logarithm(name, shown) : commands;
}

/// The commands for the title, the labels of the axes and the legend, which is at the right if there is room for it.
std::string text_commands(const Chart& chart, bool is_alone) {
  constexpr size_t kWidestAtSide = 24;
  size_t widest = 0;
  for (const auto& series : chart.series) widest = std::max(widest, series.name.size());
  const bool is_below = widest > 0 && (!is_alone || chart.heat_map || widest > kWidestAtSide);
  auto commands = fmt::format("set title {} noenhanced\nset xlabel {}{} noenhanced\nset ylabel {} noenhanced\n",
                              gnuplot_text(chart.title, kTitleLine), gnuplot_text(chart.x.label, kLabelLine),
                              // gnuplot lets the legend begin too early, so it gets an empty line above it.
                              is_below ? ".\"\\n\"" : "", gnuplot_text(chart.y.label, kLabelLine));
  if (widest == 0) return commands + "unset key\n";
  commands += is_below ? "set key outside bottom center horizontal" : "set key outside right top vertical";
  return commands + " Left reverse noenhanced samplen 2.5 spacing 1.2\n";
}

/// The bounds of a heat map's finite values; nothing if they are all the same.
std::optional<Bounds> bounds_of_values(const HeatMap& map) {
  const auto finite = map.values.masked_select(map.values.isfinite());
  if (finite.numel() == 0) return std::nullopt;
  const Bounds bounds{finite.min().item<double>(), finite.max().item<double>()};
  return bounds.least < bounds.most ? std::make_optional(bounds) : std::nullopt;
}

bool has_contours(const Chart& chart) {
  return chart.heat_map && chart.heat_map->contours > 0 && bounds_of_values(*chart.heat_map);
}

/// The commands that compute the contour lines of a panel into a data block. `data` are the values of the heat map.
std::string contour_commands(const HeatMap& map, size_t panel, const std::string& data) {
  const auto bounds = *bounds_of_values(map);
  std::vector<std::string> levels;
  for (int64_t i = 1; i <= map.contours; ++i) {
    const auto share = static_cast<double>(i) / static_cast<double>(map.contours + 1);
    levels.push_back(number(bounds.least + share * (bounds.most - bounds.least)));
  }
  return fmt::format(
      "set contour base\nunset surface\nset cntrparam levels discrete {}\nset table $contour{}\n"
      "splot {} using 1:2:3 with lines\nunset table\nreset\n",
      fmt::join(levels, ", "), panel, data);
}

std::string heat_commands(const HeatMap& map) {
  auto commands = fmt::format(
      "unset grid\nset border 15\nset palette {}\nset format cb '%g'\nset cblabel {} noenhanced offset 1,0\nset "
      "rmargin 11\n",
      kPalette, gnuplot_text(map.label, kLabelLine));
  if (const auto bounds = bounds_of_values(map)) commands += "set cbrange " + interval(*bounds) + "\n";
  return commands;
}

/// The plot of a series' intervals, or nothing if it has none.
std::optional<std::string> spread_plot(const Series& series, const std::string& data, const std::string& color,
                                       const std::string& low) {
  if (series.low.empty()) return std::nullopt;
  if (series.spread == SpreadStyle::bars) {
    return fmt::format("{} using 1:2:{}:4 with yerrorbars pt 0 lw 1.2 lc rgb '{}' notitle", data, low, color);
  }
  return fmt::format("{} using 1:{}:4 with filledcurves lc rgb '{}' fs transparent solid 0.18 noborder notitle", data,
                     low, color);
}

/// How the lines and points of a series are drawn.
struct Look {
  double line_width = 2, point_size = 1;
  int symbol = 0;

  std::string text(SeriesStyle style) const {
    const auto line = fmt::format("lw {}", line_width), point = fmt::format("pt {} ps {}", symbol, point_size);
    switch (style) {
      case SeriesStyle::lines:
      case SeriesStyle::thin:
        return "lines " + line;
      case SeriesStyle::dashed:
        return "lines " + line + " dt '-'";
      case SeriesStyle::points:
        return "points " + point;
      case SeriesStyle::both:
        return "linespoints " + line + " " + point;
    }
    TORCH_CHECK(false, "hopfield::examples::write_charts: expected a style of a series, got a number that is none");
  }
};

std::string series_plot(const Series& series, const std::string& data, size_t color, bool on_heat_map) {
  Look look;
  look.symbol = kPoints[color];
  const bool is_thin = series.style == SeriesStyle::thin;
  if (is_thin) look.line_width = 1;
  std::string plot;
  if (on_heat_map) {
    // A white edge keeps series visible on all shades of blue.
    look.line_width = is_thin ? 1.2 : 2.5;
    const Look edge{is_thin ? 3.0 : 5.5, 1.6, look.symbol == kHollow ? kPoints[0] : look.symbol};
    const auto style = series.style == SeriesStyle::dashed ? SeriesStyle::lines : series.style;
    plot = fmt::format("{} using 1:2 with {} lc rgb 'white' notitle, \\\n  ", data, edge.text(style));
  }
  const auto title = series.name.empty() ? "notitle" : "title " + gnuplot_text(series.name, kAnyLine);
  return plot +
         fmt::format("{} using 1:2 with {} lc rgb '{}' {}", data, look.text(series.style), kColors[color], title);
}

/// The data of a block, in gnuplot's terms.
std::string block_of(const std::string& source, size_t block) { return fmt::format("{} index {}", source, block); }

/// The commands for a panel, whose data begins with the block number `block`.
std::string panel_commands(const Chart& chart, size_t panel, const std::string& source, size_t block, bool is_alone) {
  std::string commands =
      "reset\nset border 3 lc rgb '#707070'\nset tics nomirror scale 0.6 textcolor rgb '#303030'\n"
      "set grid lt 1 lw 0.8 lc rgb '#E2E2E2'\n";
  const auto x = x_bounds(chart), y = y_bounds(chart);
  const bool has_map = chart.heat_map.has_value();
  commands += text_commands(chart, is_alone);
  commands += axis_commands("x", chart.x, x, has_map || chart.x.logarithmic);
  commands += axis_commands("y", chart.y, y, has_map || chart.y.logarithmic);
  if (chart.equal_units) commands += "set size ratio -1\n";
  std::vector<std::string> below, lines;
  if (has_map) {
    commands += heat_commands(*chart.heat_map);
    below.push_back(block_of(source, block++) + " using 1:2:3 with image notitle");
    if (has_contours(chart))
      below.push_back(fmt::format("$contour{} with lines lw 0.7 lc rgb '#707070' notitle", panel));
  }
  // Where the low end cannot be shown on a logarithmic axis, an interval reaches down to the axis.
  const auto least = number(chart.y.range.least.value_or(y.least));
  const auto low = chart.y.logarithmic ? fmt::format("($3 > {0} ? $3 : {0})", least) : std::string("3");
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const auto& series = chart.series[i];
    const auto color = static_cast<size_t>(series.color.value_or(static_cast<int64_t>(i))) % kColors.size();
    const auto data = block_of(source, block++);
    if (auto spread = spread_plot(series, data, kColors[color], low)) below.push_back(std::move(*spread));
    lines.push_back(series_plot(series, data, color, has_map));
  }
  below.insert(below.end(), lines.begin(), lines.end());
  return commands + fmt::format("plot {}\n", fmt::join(below, ", \\\n  "));
}

size_t blocks_of(const Chart& chart) { return chart.series.size() + (chart.heat_map ? 1 : 0); }

/// How many panels are side by side and below each other.
struct Layout {
  explicit Layout(size_t panels)
      : columns(panels == 4 ? 2 : std::min<size_t>(panels, 3)), rows((panels + columns - 1) / columns) {}

  size_t columns, rows;
};

}  // namespace

std::string chart_data(const std::vector<Chart>& charts) {
  std::string data;
  for (const auto& chart : charts) {
    if (const auto& map = chart.heat_map) {
      const auto values = map->values.detach().to(at::kCPU, at::kDouble);
      const auto at_step = [](double first, double last, int64_t i, int64_t count) {
        return first + (last - first) * static_cast<double>(i) / static_cast<double>(count - 1);
      };
      const auto cells = values.accessor<double, 2>();
      for (int64_t row = 0; row < values.size(0); ++row) {
        const auto y = number(at_step(map->y_first, map->y_last, row, values.size(0)));
        for (int64_t column = 0; column < values.size(1); ++column) {
          const auto x = number(at_step(map->x_first, map->x_last, column, values.size(1)));
          data += fmt::format("{} {} {}\n", x, y, number(cells[row][column]));
        }
        data += "\n";  // an empty line ends a row; two of them, a block
      }
      data += "\n";
    }
    for (const auto& series : chart.series) {
      for (size_t i = 0; i < series.x.size(); ++i) {
        data += number(series.x[i]) + " " + number(series.y[i]);
        if (!series.low.empty()) data += " " + number(series.low[i]) + " " + number(series.high[i]);
        data += "\n";
      }
      data += "\n\n";
    }
  }
  return data;
}

std::string terminal_command(const std::vector<Chart>& charts, const std::string& ending) {
  const Layout layout(charts.size());
  const bool is_alone = charts.size() == 1, is_svg = ending == ".svg";
  const size_t width = is_alone ? 780 : 540, height = is_alone ? 480 : 430;
  return fmt::format("set encoding utf8\nset terminal {} size {},{} background rgb 'white'\n",
                     is_svg ? "svg font 'Sans,13'" : "pngcairo font 'Sans,10' pointscale 1.3", width * layout.columns,
                     height * layout.rows);
}

std::string plot_commands(const std::vector<Chart>& charts, const std::string& source) {
  const Layout layout(charts.size());
  std::string tables, panels;
  size_t block = 0;
  for (size_t i = 0; i < charts.size(); ++i) {
    if (has_contours(charts[i])) tables += contour_commands(*charts[i].heat_map, i, block_of(source, block));
    panels += panel_commands(charts[i], i, source, block, charts.size() == 1);
    block += blocks_of(charts[i]);
  }
  // The tables come first: within a multiplot, gnuplot would draw what it tabulates.
  if (charts.size() > 1) tables += fmt::format("set multiplot layout {},{}\n", layout.rows, layout.columns);
  return tables + panels + (charts.size() > 1 ? "unset multiplot\n" : "");
}

}  // namespace hopfield::examples
