#include "report.h"

#include "common/report.h"
#include <hopfield/theory/fixed_points.h>

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace hopfield::theory_report {
namespace {

using Json = nlohmann::ordered_json;
using examples::Chart;
using examples::Series;
using examples::SeriesStyle;

// Numbers of the charts' colours.
constexpr int64_t kDataColor = 0, kThresholdColor = 1;

std::vector<double> numbers(const at::Tensor& values) {
  const auto flat = values.to(at::kCPU, at::kDouble).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

/// At most `most` of the numbers 0 .. count - 1, at even distances.
at::Tensor evenly(int64_t count, int64_t most) {
  const auto chosen = std::min(count, most);
  return (at::arange(chosen, at::kLong) * count).floor_divide_(chosen);
}

/// A vertical line.
Series threshold(const std::string& name, double x, double low, double high) {
  Series series{name, {x, x}, {low, high}, SeriesStyle::dashed};
  series.color = kThresholdColor;
  return series;
}

Chart separation_chart(const theory::Guarantees& guarantees) {
  constexpr int64_t kBins = 40;
  const auto delta = guarantees.separation.delta.cpu();
  auto least = delta.min().item<double>(), most = delta.max().item<double>();
  if (least == most) least -= 0.5, most += 0.5;
  const auto counts = numbers(at::histc(delta, kBins, least, most));
  Chart chart;
  chart.title = "separation of the patterns";
  chart.x.label = "Delta";
  chart.y.label = "patterns";
  Series outline{fmt::format("{} patterns", delta.size(0)), {least}, {0}};
  for (int64_t bin = 0; bin < kBins; ++bin) {
    for (const auto edge : {bin, bin + 1}) {
      outline.x.push_back(least + (most - least) * static_cast<double>(edge) / kBins);
      outline.y.push_back(counts[static_cast<size_t>(bin)]);
    }
  }
  outline.x.push_back(most), outline.y.push_back(0);
  outline.color = kDataColor;
  const auto highest = *std::max_element(counts.begin(), counts.end());
  chart.series = {std::move(outline), threshold("well separated from here on", guarantees.required, 0, highest)};
  return chart;
}

Chart energy_chart(const theory::Trajectories& run) {
  constexpr int64_t kMostTraces = 40;
  Chart chart;
  chart.title = "energy along updates";
  chart.x.label = "update";
  chart.y.label = "energy above the last one";
  chart.y.logarithmic = true;
  const auto above = (run.energy - run.energy[-1]).cpu();  // [updates + 1, Q]
  const auto scale = run.energy.abs().max().item<double>();
  const auto chosen = evenly(above.size(1), kMostTraces);
  for (int64_t i = 0; i < chosen.numel(); ++i) {
    const auto heights = numbers(above.select(1, chosen[i].item<int64_t>()));
    Series series{i == 0 ? "a query" : "", {}, {}, SeriesStyle::thin};
    series.color = kDataColor;
    for (size_t update = 0; update < heights.size(); ++update) {
      if (heights[update] <= 1e-15 * scale) break;  // rounding
      series.x.push_back(static_cast<double>(update)), series.y.push_back(heights[update]);
    }
    if (!series.x.empty()) chart.series.push_back(std::move(series));
  }
  return chart;
}

Chart retrieval_chart(const RetrievalCurve& curve, double beta) {
  Chart chart;
  chart.title = "patterns that a pattern retrieves";
  chart.x.label = "beta";
  chart.y.label = "k90";
  chart.x.logarithmic = chart.y.logarithmic = true;
  Series series{"median and quartiles", curve.betas, curve.median};
  series.low = curve.first_quartile, series.high = curve.third_quartile;
  series.spread = examples::SpreadStyle::band;
  series.color = kDataColor;
  const auto highest = *std::max_element(curve.third_quartile.begin(), curve.third_quartile.end());
  chart.series = {std::move(series), threshold(fmt::format("beta {:.4g}", beta), beta, 1, highest)};
  return chart;
}

Json number_or_null(double number) { return std::isfinite(number) ? Json(number) : Json(nullptr); }

Json promise(const at::Tensor& bound, const at::Tensor& observed, const at::Tensor& qualifies) {
  if (!qualifies.any().item<bool>()) return nullptr;
  const auto largest = [&](const at::Tensor& values) {
    return number_or_null(values.masked_select(qualifies).max().item<double>());
  };
  return {{"guaranteed", largest(bound)}, {"observed", largest(observed)}};
}

Json separation_json(const theory::Report& report) {
  const auto& g = report.guarantees;
  const auto& delta = g.separation.delta;
  return {{"required", g.required},
          {"radius", g.radius},
          {"well_separated", g.count()},
          {"all_from_beta", number_or_null(report.separating_beta)},
          {"least", delta.min().item<double>()},
          {"median", delta.median().item<double>()},
          {"largest", delta.max().item<double>()}};
}

Json theorems_json(const theory::Report& report) {
  const auto& run = report.trajectories;
  const auto& b = report.bounds;
  Json json;
  json["1"] = {{"largest_rise", run.largest_rise}};
  json["2"] = {{"largest_gradient", run.gradient.max().item<double>()},
               {"most_updates", run.steps.max().item<int64_t>()}};
  json["3"] = {{"guaranteed", report.sphere.is_guaranteed()},
               {"c", report.sphere.c},
               {"required_c", report.sphere.required_c},
               {"log_patterns", number_or_null(report.sphere.log_patterns)}};
  json["4"] = {{"update_distance", promise(b.update_bound, b.update_distance, b.qualifies)}};
  json["5"] = {{"retrieval_error", promise(b.retrieval_bound, b.retrieval_error, b.qualifies)},
               {"fixed_point_error", promise(b.fixed_point_bound, b.fixed_point_error, b.qualifies)}};
  json["qualifying"] = report.qualifying;
  json["held"] = report.held;
  return json;
}

Json each_pattern(const Analysis& analysis) {
  const auto& g = analysis.report.guarantees;
  const auto deltas = numbers(g.separation.delta), nearest = numbers(g.separation.nearest);
  const auto betas = numbers(theory::separating_betas(g.separation)), separated = numbers(g.well_separated);
  auto json = Json::array();
  for (size_t i = 0; i < deltas.size(); ++i) {
    Json entry;
    if (!analysis.patterns.names.empty()) entry["name"] = analysis.patterns.names[i];
    entry["delta"] = deltas[i];
    entry["nearest"] = static_cast<int64_t>(nearest[i]);
    entry["well_separated"] = separated[i] != 0;
    entry["from_beta"] = number_or_null(betas[i]);
    json.push_back(std::move(entry));
  }
  return json;
}

Json each_query(const Analysis& analysis) {
  const auto& b = analysis.report.bounds;
  const auto& run = analysis.report.trajectories;
  const std::pair<const char*, std::vector<double>> columns[] = {{"distance", numbers(b.distance)},
                                                                 {"update_distance", numbers(b.update_distance)},
                                                                 {"update_bound", numbers(b.update_bound)},
                                                                 {"retrieval_error", numbers(b.retrieval_error)},
                                                                 {"retrieval_bound", numbers(b.retrieval_bound)},
                                                                 {"fixed_point_error", numbers(b.fixed_point_error)},
                                                                 {"fixed_point_bound", numbers(b.fixed_point_bound)},
                                                                 {"energy", numbers(run.energy[0])},
                                                                 {"final_energy", numbers(run.energy[-1])},
                                                                 {"gradient", numbers(run.gradient)}};
  const auto patterns = numbers(b.pattern), qualifies = numbers(b.qualifies), steps = numbers(run.steps);
  auto json = Json::array();
  for (size_t i = 0; i < patterns.size(); ++i) {
    Json entry;
    if (!analysis.queries.names.empty()) entry["name"] = analysis.queries.names[i];
    entry["pattern"] = static_cast<int64_t>(patterns[i]);
    entry["qualifies"] = qualifies[i] != 0;
    entry["updates"] = static_cast<int64_t>(steps[i]);
    for (const auto& [name, values] : columns) entry[name] = number_or_null(values[i]);
    json.push_back(std::move(entry));
  }
  return json;
}

}  // namespace

RetrievalCurve retrieval_curve(const at::Tensor& patterns, double beta) {
  constexpr int64_t kMostStates = 500, kPoints = 31;
  const auto rows = patterns.to(at::kDouble);
  const auto states = rows.index_select(0, evenly(rows.size(0), kMostStates));
  const auto spread = (rows - rows.mean(0)).pow(2).sum(1).mean().item<double>();
  const auto scale = spread > 0 ? 1 / spread : beta;
  const auto least = std::log(std::min(0.03 * scale, 0.3 * beta)), most = std::log(std::max(300 * scale, 3 * beta));
  RetrievalCurve curve;
  for (int64_t i = 0; i < kPoints; ++i) {
    curve.betas.push_back(std::exp(least + (most - least) * static_cast<double>(i) / (kPoints - 1)));
    const auto sorted = std::get<0>(theory::k90_of(rows, curve.betas.back(), states).sort());
    const auto quantile = [&](int64_t quarters) {
      return static_cast<double>(sorted[(sorted.size(0) - 1) * quarters / 4].item<int64_t>());
    };
    curve.first_quartile.push_back(quantile(1));
    curve.median.push_back(quantile(2));
    curve.third_quartile.push_back(quantile(3));
  }
  return curve;
}

std::string line_of(const Analysis& analysis) {
  const auto& report = analysis.report;
  const auto count = report.guarantees.separation.count();
  auto line = fmt::format("{} of {} patterns are well separated at beta {:.4g}", report.guarantees.count(), count,
                          report.guarantees.beta);
  if (report.guarantees.count() < count) {
    line += std::isinf(report.separating_beta) ? ", never all of them"
                                               : fmt::format(", all from {:.4g} on", report.separating_beta);
  }
  const auto queries = analysis.queries.values.size(0);
  return line + (report.qualifying == 0
                     ? fmt::format("; theorems 4 and 5 speak about none of the {} queries", queries)
                     : fmt::format("; theorems 4 and 5 speak about {} of {} queries and hold for {} of them",
                                   report.qualifying, queries, report.held));
}

std::vector<Chart> charts_of(const Analysis& analysis) {
  std::vector<Chart> charts{separation_chart(analysis.report.guarantees)};
  auto energies = energy_chart(analysis.report.trajectories);
  if (!energies.series.empty()) charts.push_back(std::move(energies));  // all queries may be fixed points
  charts.push_back(retrieval_chart(analysis.curve, analysis.report.guarantees.beta));
  return charts;
}

void write_json(const std::string& path, const Analysis& analysis, const Options& options) {
  const auto& report = analysis.report;
  auto json = examples::json_header(options.command);
  json["patterns"] = {{"source", analysis.patterns.source},
                      {"count", report.guarantees.separation.count()},
                      {"features", report.width},
                      {"normalize", options.normalize},
                      {"largest_norm", report.guarantees.separation.largest_norm}};
  json["queries"] = {{"source", analysis.queries.source},
                     {"count", analysis.queries.values.size(0)},
                     {"noise", options.noise},
                     {"seed", options.seed}};
  json["beta"] = report.guarantees.beta;
  json["separation"] = separation_json(report);
  json["theorems"] = theorems_json(report);
  const auto& curve = analysis.curve;
  json["k90"] = {{"betas", curve.betas},
                 {"first_quartile", curve.first_quartile},
                 {"median", curve.median},
                 {"third_quartile", curve.third_quartile}};
  json["each_pattern"] = each_pattern(analysis);
  json["each_query"] = each_query(analysis);
  json["seconds"] = analysis.seconds;
  examples::write_json(path, json);
}

}  // namespace hopfield::theory_report
