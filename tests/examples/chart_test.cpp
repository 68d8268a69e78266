#include "common/chart.h"

#include "common/image.h"
#include "fake_gnuplot.h"
#include "support/errors.h"
#include "temporary_folder.h"

#include <ATen/ATen.h>
#include <torch/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

namespace hopfield::examples {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();
// Everything that has a meaning in a gnuplot script, a shell or SVG.
constexpr auto kOddText = "it's \"odd\" `touch odd` @x _{y} ^2 \\n %d $data <b>&amp; \xCE\xB2 # ; | {/Symbol a}";

#define SKIP_WITHOUT_GNUPLOT() \
  if (std::system("gnuplot --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "gnuplot is not installed"

Series line(const std::string& name, SeriesStyle style = SeriesStyle::lines) {
  return {name, {1, 2, 4, 8}, {0.5, 0.25, 0.3, 0.1}, style};
}

Chart chart_of(std::vector<Series> series) {
  Chart chart;
  chart.title = "Title";
  chart.x.label = "x";
  chart.y.label = "y";
  chart.series = std::move(series);
  return chart;
}

Chart heat_chart() {
  Chart chart;
  const auto axis = at::linspace(-2, 2, 41);
  HeatMap map;
  map.values = (axis.square() - 1).square().unsqueeze(0) + axis.square().unsqueeze(1);
  map.x_first = map.y_first = -2;
  map.x_last = map.y_last = 2;
  map.contours = 6;
  map.label = "energy";
  chart.heat_map = map;
  return chart;
}

/// Draws charts to a PNG file: [height, width, 3].
at::Tensor drawn(const std::vector<Chart>& charts) {
  const TemporaryFolder folder;
  EXPECT_EQ(write_charts(folder / "chart.png", charts), "");
  EXPECT_LT(folder.read("chart.png").size(), 60000u);
  return read_image(folder / "chart.png");
}

/// How many pixels have nearly this colour, written as 0xRRGGBB.
int64_t pixels_of(const at::Tensor& image, int64_t color) {
  const auto wanted = torch::tensor({color >> 16, color >> 8 & 255, color & 255}).to(at::kFloat) / 255;
  return ((image - wanted).abs().amax(2) < 0.02).sum().item<int64_t>();
}
constexpr int64_t kBlue = 0x0072B2, kVermilion = 0xD55E00, kGreenish = 0x009E73, kWhite = 0xFFFFFF;

TEST(Chart, DrawsEachStyle) {
  SKIP_WITHOUT_GNUPLOT();
  for (const auto style :
       {SeriesStyle::lines, SeriesStyle::points, SeriesStyle::both, SeriesStyle::dashed, SeriesStyle::thin}) {
    const auto image = drawn({chart_of({line("first", style), line("second", style)})});
    // Most pixels of a thin line are blended with the white beside it.
    EXPECT_GT(pixels_of(image, kVermilion), style == SeriesStyle::thin ? 10 : 50);
    EXPECT_GT(pixels_of(image, kWhite), image.size(0) * image.size(1) / 2);
  }
}

TEST(Chart, DrawsIntervals) {
  SKIP_WITHOUT_GNUPLOT();
  auto series = line("measured", SeriesStyle::both);
  const auto plain = drawn({chart_of({series})});
  series.low = {0.4, 0.2, 0.2, 0};
  series.high = {0.6, 0.3, 0.4, 0.3};
  const auto bars = drawn({chart_of({series})});
  series.spread = SpreadStyle::band;
  const auto band = drawn({chart_of({series})});
  EXPECT_FALSE(bars.equal(plain));
  EXPECT_GT(pixels_of(band, 0xD1E6F2), 1000);  // the blue, mixed with white
}

TEST(Chart, DrawsHeatMapsWithTrajectories) {
  SKIP_WITHOUT_GNUPLOT();
  auto chart = heat_chart();
  const auto alone = drawn({chart});
  EXPECT_GT(pixels_of(alone, 0x0B2C56), 200);  // the wells
  chart.series = {line("way"), line("back")};
  const auto thick = drawn({chart});
  EXPECT_GT(pixels_of(thick, kVermilion), 50);
  for (auto& series : chart.series) series.style = SeriesStyle::thin;
  EXPECT_LT(pixels_of(drawn({chart}), kVermilion), pixels_of(thick, kVermilion));
  chart.heat_map->contours = 0;
  chart.equal_units = true;
  drawn({chart});
  chart.heat_map->values.fill_(3);  // no contours and no scale of colours
  chart.heat_map->contours = 5;
  drawn({chart});
  chart.heat_map->values.fill_(kNaN);
  drawn({chart});
}

TEST(Chart, DrawsPanelsSideBySide) {
  SKIP_WITHOUT_GNUPLOT();
  const auto one = chart_of({line("first", SeriesStyle::both), line("second", SeriesStyle::both)});
  const auto alone = drawn({one}), two = drawn({one, heat_chart()}), four = drawn({one, one, one, one});
  EXPECT_GT(two.size(1), alone.size(1));
  EXPECT_EQ(four.size(0), 2 * two.size(0));
  const auto half = two.size(1) / 2;
  EXPECT_GT(pixels_of(two.slice(1, 0, half), kBlue), 50);
  EXPECT_GT(pixels_of(two.slice(1, half), 0x0B2C56), 100);
}

TEST(Chart, KeepsTheColoursOfSeries) {
  SKIP_WITHOUT_GNUPLOT();
  auto theory = line("theory", SeriesStyle::dashed), measured = line("measured", SeriesStyle::points);
  theory.color = measured.color = 2;
  const auto image = drawn({chart_of({theory, measured})});
  EXPECT_GT(pixels_of(image, kGreenish), 50);
  EXPECT_EQ(pixels_of(image, kBlue), 0);
}

TEST(Chart, HasLogarithmicAxes) {
  SKIP_WITHOUT_GNUPLOT();
  for (const double last : {8.0, 8e3, 8e15}) {
    auto chart = chart_of({line("a")});
    chart.series[0].x.back() = last;
    chart.series[0].y[1] = 0;  // cannot be shown
    chart.series[0].low = {0.1, 0, 0, 0};
    chart.series[0].high = {0.6, 0.3, 0.4, 0.3};
    chart.x.logarithmic = chart.y.logarithmic = true;
    EXPECT_GT(pixels_of(drawn({chart}), kBlue), 20);
    chart.y.range = {0.01, 10};
    EXPECT_GT(pixels_of(drawn({chart}), kBlue), 20);
  }
}

TEST(Chart, InterruptsLinesWhereNumbersAreNotFinite) {
  SKIP_WITHOUT_GNUPLOT();
  auto chart = chart_of({line("a"), line("all missing")});
  chart.series[0].y[1] = kNaN;
  chart.series[0].x[2] = kInfinity;
  chart.series[1].y = {kNaN, kNaN, -kInfinity, kNaN};
  drawn({chart});
  chart.series[0] = {"a point", {3}, {3}, SeriesStyle::points};
  drawn({chart});
}

TEST(Chart, TakesTextsForTexts) {
  SKIP_WITHOUT_GNUPLOT();
  const TemporaryFolder folder;
  auto chart = heat_chart();
  chart.title = chart.x.label = chart.y.label = chart.heat_map->label = kOddText;
  chart.series = {line(kOddText)};
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  EXPECT_EQ(write_charts("odd.svg", {chart, chart_of({line(kOddText)})}), "");
  std::filesystem::current_path(before);
  EXPECT_FALSE(std::filesystem::exists(folder / "odd"));
  const auto svg = folder.read("odd.svg");
  // The name in the legend is on one line, and has all its characters. Escaping of '>' is optional in SVG.
  EXPECT_THAT(svg,
              HasSubstr("it's \"odd\" `touch odd` @x _{y} ^2 \\n %d $data &lt;b>&amp;amp; \xCE\xB2 # ; | {/Symbol a}"));
}

TEST(Chart, IsTheSameEachTime) {
  SKIP_WITHOUT_GNUPLOT();
  const TemporaryFolder folder;
  for (const std::string ending : {".png", ".svg"}) {
    write_charts(folder / "a" + ending, {heat_chart()});
    write_charts(folder / "b" + ending, {heat_chart()});
    EXPECT_EQ(folder.read("a" + ending), folder.read("b" + ending));
  }
  EXPECT_THAT(folder.read("a.svg"), AllOf(StartsWith("<?xml"), HasSubstr("</svg>")));
}

TEST(Chart, WritesDataAndScriptWithoutGnuplot) {
  const TemporaryFolder folder;
  auto chart = heat_chart();
  chart.series = {line("it's", SeriesStyle::both)};
  {
    const FakeGnuplot none("");
    const auto remark = write_charts(folder / "my chart.png", {chart});
    EXPECT_THAT(remark, AllOf(StartsWith("gnuplot is not installed, so '"), HasSubstr("my chart.png' was not drawn"),
                              HasSubstr("my chart.dat' and '"), HasSubstr("my chart.gnuplot'")));
    EXPECT_EQ(write_charts(folder / "my chart.png", {chart}), remark);  // replaces its own files
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "my chart.png"));
  EXPECT_THAT(folder.read("my chart.dat"), HasSubstr("\n1 0.5\n2 0.25\n4 0.3\n8 0.1\n"));
  SKIP_WITHOUT_GNUPLOT();
  ASSERT_EQ(std::system(("cd " + folder.path() + " && gnuplot 'my chart.gnuplot'").c_str()), 0);
  EXPECT_EQ(write_charts(folder / "directly.png", {chart}), "");
  // The picture that the script draws has more colours.
  const auto difference = read_image(folder / "my chart.png") - read_image(folder / "directly.png");
  EXPECT_LT(difference.abs().mean().item<double>(), 0.01);
  EXPECT_LT(difference.abs().max().item<double>(), 0.2);
}

TEST(Chart, DoesNotReplaceOtherFilesWithoutGnuplot) {
  const TemporaryFolder folder;
  folder.write("results.dat", "1 2 3\n");
  const FakeGnuplot none("");
  EXPECT_THAT(error_of([&] { write_charts(folder / "results.png", {chart_of({line("a")})}); }),
              HasSubstr("results.dat' to be missing or from an earlier chart, got another file"));
  EXPECT_EQ(folder.read("results.dat"), "1 2 3\n");
}

TEST(Chart, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const auto refusal = [&](const Chart& chart, const std::string& name = "chart.png") {
    return error_of([&] { write_charts(folder / name, {chart}); });
  };
  const auto right = chart_of({line("a")});
  EXPECT_THAT(refusal(right, "chart.pdf"), HasSubstr("expected a file name that ends in .png or .svg, got"));
  EXPECT_THAT(error_of([&] { write_charts(folder / "chart.png", {}); }), HasSubstr("at least one chart, got none"));
  EXPECT_THAT(refusal(chart_of({})), HasSubstr("expected a chart with series or a heat map, got neither for 'Title'"));
  auto wrong = right;
  wrong.series[0].y.pop_back();
  EXPECT_THAT(refusal(wrong), HasSubstr("got lengths of 4, 3, 0 and 0"));
  wrong = right;
  wrong.series[0].low = {1};
  wrong.series[0].high = {1};
  EXPECT_THAT(refusal(wrong), HasSubstr("got lengths of 4, 4, 1 and 1"));
  wrong = right;
  wrong.series[0].y = {kNaN, kNaN, kInfinity, kNaN};
  EXPECT_THAT(refusal(wrong), HasSubstr("expected a chart with at least one point, got none that can be shown"));
  wrong = right;
  wrong.series[0].y = {0, -1, 0, 0};
  wrong.y.logarithmic = true;
  EXPECT_THAT(refusal(wrong), HasSubstr("and above 0 on logarithmic axes"));
  wrong = right;
  wrong.x.range = {2, 2};
  EXPECT_THAT(refusal(wrong), HasSubstr("a range of finite numbers, the least first, for the axis 'x', got 2 to 2"));
  wrong = right;
  wrong.x.range = {100, {}};
  EXPECT_THAT(refusal(wrong), HasSubstr("expected a range that shows a part of the data for the x axis, got 100 to 8"));
  wrong.x.range = {kNaN, {}};
  EXPECT_THAT(refusal(wrong), HasSubstr("a range of finite numbers, the least first, for the axis 'x', got nan to"));
  wrong = right;
  wrong.y.logarithmic = true;
  wrong.y.range = {0, 2};
  EXPECT_THAT(refusal(wrong), HasSubstr("expected a range above 0 for the logarithmic axis 'y', got 0 to 2"));
  wrong = right;
  wrong.series[0].color = -1;
  EXPECT_THAT(refusal(wrong), HasSubstr("expected the number of a colour, from 0, for the series 'a', got -1"));
  wrong = heat_chart();
  wrong.heat_map->values = at::ones({1, 5});
  EXPECT_THAT(refusal(wrong), HasSubstr("to be [rows, columns] with at least 2 of each, got [1, 5]"));
  wrong = heat_chart();
  wrong.heat_map->x_last = -2;
  EXPECT_THAT(refusal(wrong), HasSubstr("to differ, got -2 to -2 and -2 to 2"));
  wrong = heat_chart();
  wrong.x.logarithmic = true;
  EXPECT_THAT(refusal(wrong), HasSubstr("expected linear axes for a heat map"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Chart, KeepsThePreviousFileWhenGnuplotFails) {
  const TemporaryFolder folder;
  folder.write("chart.png", "previous");
  const FakeGnuplot fake("echo half; echo 'line 7: no such terminal' >&2; exit 1");
  EXPECT_THAT(error_of([&] { write_charts(folder / "chart.png", {chart_of({line("a")})}); }),
              HasSubstr("but it ended with code 1: line 7: no such terminal"));
  EXPECT_EQ(folder.read("chart.png"), "previous");
}

}  // namespace
}  // namespace hopfield::examples
