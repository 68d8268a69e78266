#include "report.h"

#include "common/report.h"
#include "common/text.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>

namespace hopfield::landscape {
namespace {

using Json = nlohmann::ordered_json;
using examples::Series;
using examples::SeriesStyle;

constexpr FixedPointKind kKinds[] = {FixedPointKind::single, FixedPointKind::metastable, FixedPointKind::average};

// Numbers of the charts' colours: grey, orange, and green, purple and yellow.
constexpr int64_t kPathColor = 6, kPatternColor = 1, kKindColors[] = {2, 3, 5};

void append(Series& series, const at::Tensor& points) {
  for (int64_t i = 0; i < points.size(0); ++i) {
    series.x.push_back(points[i][0].item<double>());
    series.y.push_back(points[i][1].item<double>());
  }
}

/// All paths as one series, whose line is interrupted between them.
Series paths_of(const Landscape& landscape) {
  Series series{"updates", {}, {}, SeriesStyle::thin};
  series.color = kPathColor;
  const auto gap = std::numeric_limits<double>::quiet_NaN();
  for (const auto& path : landscape.paths) {
    append(series, path);
    series.x.push_back(gap), series.y.push_back(gap);
  }
  return series;
}

std::string counted(int64_t count, const std::string& what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string kinds_of(const Landscape& landscape) {
  std::vector<std::string> parts;
  for (const auto kind : kKinds) {
    if (landscape.count(kind) > 0) parts.push_back(counted(landscape.count(kind), name_of(kind)));
  }
  return examples::joined(parts);
}

Json number_or_null(double number) { return std::isfinite(number) ? Json(number) : Json(nullptr); }

Json to_json(const Landscape& landscape) {
  Json json{{"beta", landscape.beta}};
  auto& points = json["fixed_points"] = Json::array();
  for (const auto& point : landscape.fixed_points) {
    points.push_back({{"x", point.x},
                      {"y", point.y},
                      {"energy", number_or_null(point.energy)},
                      {"kind", name_of(point.kind)},
                      {"patterns", point.patterns},
                      {"starts", point.starts}});
  }
  for (const auto kind : kKinds) json[name_of(kind)] = landscape.count(kind);
  json["resting"] = landscape.resting;
  json["unsettled"] = landscape.unsettled;
  return json;
}

}  // namespace

examples::Chart chart_of(const Landscape& landscape, const at::Tensor& patterns, const Frame& frame) {
  examples::Chart chart;
  chart.title = fmt::format("beta {:.4g}: {}", landscape.beta, kinds_of(landscape));
  chart.x = {"", false, {frame.left, frame.right}};
  chart.y = {"", false, {frame.bottom, frame.top}};
  chart.equal_units = true;
  chart.heat_map = examples::HeatMap{landscape.energy, frame.left, frame.right, frame.bottom, frame.top, "energy", 14};
  if (!landscape.paths.empty()) chart.series.push_back(paths_of(landscape));
  Series stored{"patterns", {}, {}, SeriesStyle::points};
  stored.color = kPatternColor;
  append(stored, patterns);
  chart.series.push_back(std::move(stored));
  for (const auto kind : kKinds) {
    Series series{name_of(kind), {}, {}, SeriesStyle::points};
    series.color = kKindColors[static_cast<size_t>(kind)];
    for (const auto& point : landscape.fixed_points) {
      if (point.kind == kind) series.x.push_back(point.x), series.y.push_back(point.y);
    }
    if (!series.x.empty()) chart.series.push_back(std::move(series));
  }
  return chart;
}

std::string line_of(const Landscape& landscape) {
  const auto count = static_cast<int64_t>(landscape.fixed_points.size());
  auto line = fmt::format("beta {:.4g}: {}", landscape.beta, counted(count, "fixed point"));
  if (count > 0) line += fmt::format(" ({})", kinds_of(landscape));
  if (landscape.resting > 0) line += fmt::format(", {} where no pattern acts", counted(landscape.resting, "start"));
  if (landscape.unsettled > 0) line += fmt::format(", {} not settled", counted(landscape.unsettled, "start"));
  return line;
}

void write_report(const std::string& path, const std::vector<Landscape>& landscapes, const at::Tensor& patterns,
                  const Options& options) {
  auto json = examples::json_header(options.command);
  json["memory"] = options.memory;
  if (options.memory == "continuous") json["similarity"] = options.similarity.value_or(kSimilarity);
  auto& rows = json["patterns"] = Json::array();
  for (int64_t i = 0; i < patterns.size(0); ++i) {
    rows.push_back({patterns[i][0].item<double>(), patterns[i][1].item<double>()});
  }
  json["starts"] = options.starts * options.starts;
  json["seed"] = options.seed;
  auto& entries = json["landscapes"] = Json::array();
  for (const auto& landscape : landscapes) entries.push_back(to_json(landscape));
  examples::write_json(path, json);
}

}  // namespace hopfield::landscape
