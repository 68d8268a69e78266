#include "chart.h"

#include "chart_script.h"
#include "gnuplot.h"
#include "palette.h"
#include "text.h"
#include <hopfield/io/file.h>

#include <ATen/ATen.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace hopfield::examples {
namespace {

namespace fs = std::filesystem;

void check_axis(const Axis& axis) {
  const auto least = axis.range.least.value_or(axis.logarithmic ? 1e-300 : -1e300);
  const auto most = axis.range.most.value_or(1e300);
  TORCH_CHECK(std::isfinite(least) && std::isfinite(most) && least < most,
              "hopfield::examples::write_charts: expected a range of finite numbers, the least first, for the axis ",
              quote(axis.label), ", got ", least, " to ", most);
  TORCH_CHECK(!axis.logarithmic || least > 0,
              "hopfield::examples::write_charts: expected a range above 0 for the logarithmic axis ", quote(axis.label),
              ", got ", least, " to ", most);
}

void check_heat_map(const Chart& chart) {
  const auto& map = *chart.heat_map;
  TORCH_CHECK(
      map.values.defined() && map.values.dim() == 2 && map.values.size(0) >= 2 && map.values.size(1) >= 2,
      "hopfield::examples::write_charts: expected the values of a heat map to be [rows, columns] with at least 2 "
      "of each, got ",
      map.values.defined() ? map.values.sizes() : at::IntArrayRef{});
  TORCH_CHECK(map.x_first != map.x_last && map.y_first != map.y_last,
              "hopfield::examples::write_charts: expected the first and the last x and y of a heat map to differ, got ",
              map.x_first, " to ", map.x_last, " and ", map.y_first, " to ", map.y_last);
  TORCH_CHECK(!chart.x.logarithmic && !chart.y.logarithmic,
              "hopfield::examples::write_charts: expected linear axes for a heat map, got a logarithmic one");
}

void check_chart(const Chart& chart) {
  TORCH_CHECK(chart.heat_map || !chart.series.empty(),
              "hopfield::examples::write_charts: expected a chart with series ", "or a heat map, got neither for ",
              quote(chart.title));
  check_axis(chart.x);
  check_axis(chart.y);
  if (chart.heat_map) check_heat_map(chart);
  for (const auto& series : chart.series) {
    const auto points = series.x.size(), intervals = series.low.size();
    TORCH_CHECK(points > 0 && series.y.size() == points && series.high.size() == intervals &&
                    (intervals == 0 || intervals == points),
                "hopfield::examples::write_charts: expected x and y of the same length for the series ",
                quote(series.name), ", at least one point, and as many low and high ends or none, got lengths of ",
                points, ", ", series.y.size(), ", ", intervals, " and ", series.high.size());
    TORCH_CHECK(series.color.value_or(0) >= 0,
                "hopfield::examples::write_charts: expected the number of a colour, from "
                "0, for the series ",
                quote(series.name), ", got ", *series.color);
  }
}

/// Writes a file that begins with a line by which it is recognised. A file that does not is somebody else's.
void write_own_file(const std::string& path, const std::string& first_line, const std::string& content) {
  std::string line;
  std::ifstream existing(path);
  const bool is_ours = !existing.is_open() || (std::getline(existing, line) && line == first_line);
  TORCH_CHECK(is_ours, "hopfield::examples::write_charts: expected ", quote(path), " to be missing or from an earlier ",
              "chart, got another file; choose another name for the chart, or install gnuplot");
  io::write_file(path, first_line + "\n" + content);
}

/// Writes data and script beside the picture that they would have become, and says so.
std::string write_script(const std::string& path, const std::vector<Chart>& charts) {
  const auto beside = [&](const char* ending) { return fs::path(path).replace_extension(ending).string(); };
  const auto name = [](const std::string& file) { return gnuplot_text(fs::path(file).filename().string(), SIZE_MAX); };
  const auto data = beside(".dat"), script = beside(".gnuplot");
  write_own_file(data, "# The data of a chart, one block for each series", chart_data(charts));
  write_own_file(script, "# Draws a chart, from the folder of this file",
                 terminal_command(charts, ending_of(path)) + "set output " + name(path) + "\ndata = " + name(data) +
                     "\n" + plot_commands(charts, "data"));
  return "gnuplot is not installed, so " + quote(path) + " was not drawn; its data and a script for gnuplot are in " +
         quote(data) + " and " + quote(script);
}

}  // namespace

std::string write_charts(const std::string& path, const std::vector<Chart>& charts) {
  const auto ending = ending_of(path);
  TORCH_CHECK(ending == ".png" || ending == ".svg",
              "hopfield::examples::write_charts: expected a file name that ends in "
              ".png or .svg, got ",
              quote(path));
  TORCH_CHECK(!charts.empty(), "hopfield::examples::write_charts: expected at least one chart, got none");
  for (const auto& chart : charts) check_chart(chart);
  const auto commands = terminal_command(charts, ending) + plot_commands(charts, "$data");
  const auto picture = run_gnuplot("$data << END\n" + chart_data(charts) + "END\n" + commands);
  if (!picture) return write_script(path, charts);
  // Fewer colours make the files of charts, which have large areas of one colour, several times smaller.
  io::write_file(path, ending == ".svg" ? *picture : encode_png(reduce_colors(decode_png(*picture, path))));
  return "";
}

}  // namespace hopfield::examples
