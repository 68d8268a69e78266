#include "report.h"

#include "common/report.h"
#include "common/text.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace hopfield::lm {
namespace {

using Json = nlohmann::ordered_json;
using examples::Chart;
using examples::Series;
using examples::SeriesStyle;

constexpr const char* kClasses[] = {"I", "II", "III", "IV"};

double milliseconds(const History& history) {
  return 1e3 * history.seconds / static_cast<double>(std::max<size_t>(history.losses.size(), 1));
}

/// The largest difference between the losses of two trainings.
double largest_difference(const History& a, const History& b) {
  double largest = 0;
  for (size_t i = 0; i < std::min(a.losses.size(), b.losses.size()); ++i) {
    largest = std::max(largest, std::abs(a.losses[i] - b.losses[i]));
  }
  return largest;
}

Json options_json(const TrainOptions& o) {
  Json json{{"attention", o.attention},
            {"type", o.type},
            {"layers", o.model.layers},
            {"heads", o.model.heads},
            {"width", o.model.width},
            {"context", o.model.context},
            {"update_steps", o.model.update_steps}};
  json["beta"] = o.model.learns_beta ? Json("learned") : o.model.beta ? Json(*o.model.beta) : Json("default");
  json.update({{"steps", o.steps}, {"batch", o.batch}, {"evaluations", o.evaluations}, {"lr", o.lr}, {"seed", o.seed}});
  return json;
}

Chart loss_chart(const std::vector<Training>& trainings) {
  Chart chart;
  chart.title = "loss";
  chart.x.label = "step";
  chart.y.label = "nats a character";
  int64_t color = 0;
  for (const auto& training : trainings) {
    const auto& history = training.history();
    Series steps{fmt::format("{}, training", training.name()), {}, {}, SeriesStyle::thin};
    Series rest{fmt::format("{}, rest of the text", training.name()), {}, {}, SeriesStyle::both};
    for (size_t i = 0; i < history.losses.size(); ++i) {
      steps.x.push_back(static_cast<double>(i + 1)), steps.y.push_back(history.losses[i]);
    }
    for (const auto& e : history.evaluations) rest.x.push_back(static_cast<double>(e.step)), rest.y.push_back(e.loss);
    steps.color = rest.color = color++;
    chart.series.push_back(std::move(steps));
    chart.series.push_back(std::move(rest));
  }
  return chart;
}

Chart class_chart(const History& history) {
  Chart chart;
  chart.title = "heads of each class";
  chart.x.label = "step";
  chart.y.label = "heads";
  for (size_t i = 0; i < 4; ++i) {
    Series series{fmt::format("class {}", kClasses[i]), {}, {}, SeriesStyle::both};
    for (const auto& e : history.evaluations) {
      series.x.push_back(static_cast<double>(e.step)), series.y.push_back(static_cast<double>(e.heads[i]));
    }
    chart.series.push_back(std::move(series));
  }
  chart.y.range.least = 0;
  return chart;
}

}  // namespace

std::string describe_run(const Corpus& corpus, const TrainOptions& options) {
  auto json = options_json(options);
  json["text"] = corpus.digest;
  return examples::json_text(json, -1);
}

std::string result_line(const std::vector<Training>& trainings) {
  std::vector<std::string> parts;
  for (const auto& training : trainings) {
    const auto& history = training.history();
    parts.push_back(fmt::format("{}: loss {:.4f} on the rest of the text after {} steps, {:.1f} ms a step",
                                training.name(), history.evaluations.back().loss, history.losses.size(),
                                milliseconds(history)));
  }
  if (trainings.size() == 2) {
    const auto &a = trainings[0].history(), &b = trainings[1].history();
    parts.push_back(fmt::format("losses differ by at most {:.2g}; speed of hopfield / torch {:.2f}",
                                largest_difference(a, b), b.seconds / a.seconds));
  }
  std::string line;
  for (const auto& part : parts) line += (line.empty() ? "" : "; ") + part;
  return line;
}

std::vector<Chart> charts_of(const std::vector<Training>& trainings) {
  std::vector<Chart> charts{loss_chart(trainings)};
  if (!trainings.front().uses_torch()) charts.push_back(class_chart(trainings.front().history()));
  return charts;
}

void write_json(const std::string& path, std::vector<Training>& trainings, const Corpus& corpus,
                const TrainOptions& options, const std::string& sample) {
  auto json = examples::json_header(options.command);
  json["text"] = options.text;
  json["characters"] = corpus.vocabulary.size();
  json["options"] = options_json(options);
  for (auto& training : trainings) {
    const auto& history = training.history();
    auto& entry = json[training.name()];
    entry["losses"] = history.losses;
    auto& evaluations = entry["evaluations"] = Json::array();
    for (const auto& e : history.evaluations) {
      Json evaluation{{"step", e.step}, {"loss", e.loss}};
      for (size_t i = 0; i < 4 && !training.uses_torch(); ++i) evaluation["heads"][kClasses[i]] = e.heads[i];
      evaluations.push_back(std::move(evaluation));
    }
    if (!training.uses_torch()) entry["betas"] = training.model()->betas();
    entry["seconds"] = history.seconds;
    entry["milliseconds_per_step"] = milliseconds(history);
  }
  if (trainings.size() == 2) {
    const auto &a = trainings[0].history(), &b = trainings[1].history();
    json["largest_difference"] = largest_difference(a, b);
    json["speed_ratio"] = b.seconds / a.seconds;
  }
  if (!sample.empty()) json["sample"] = examples::valid_utf8(sample);
  examples::write_json(path, json);
}

}  // namespace hopfield::lm
