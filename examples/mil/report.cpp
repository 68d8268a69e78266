#include "report.h"

#include "common/report.h"
#include "data_options.h"

#include <torch/version.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace hopfield::mil {
namespace {

using Json = nlohmann::ordered_json;

/// Mean and standard deviation of the folds' values. The deviation has the divisor n, not n - 1.
struct Summary {
  double mean = 0, deviation = 0;
  std::vector<double> values;
};

Summary summarize(const std::vector<FoldResult>& results, double FoldResult::*quantity) {
  Summary summary;
  for (const auto& result : results) summary.values.push_back(result.*quantity);
  const auto count = static_cast<double>(results.size());
  for (const auto value : summary.values) summary.mean += value / count;
  for (const auto value : summary.values) summary.deviation += (value - summary.mean) * (value - summary.mean) / count;
  summary.deviation = std::sqrt(summary.deviation);
  return summary;
}

Json to_json(const Summary& summary) {
  return {{"mean", summary.mean}, {"std", summary.deviation}, {"folds", summary.values}};
}

int64_t count_instances(const data::MilTable& table) {
  int64_t count = 0;
  for (const auto& bag : table.bags) count += bag.instances.size(0);
  return count;
}

Json options_json(const data::MilTable& table, const TrainOptions& o) {
  return {{"folds", o.folds},
          {"repeats", o.repeats},
          {"seed", o.seed},
          {"epochs", o.epochs},
          {"batch", o.batch},
          {"lr", o.lr},
          {"lr_decay", o.lr_decay},
          {"embedding", o.embedding},
          {"heads", o.heads},
          {"hidden", o.hidden},
          {"beta", model_options(o, table.features).beta},
          {"update_steps", o.update_steps},
          {"dropout", o.dropout},
          {"embedding_dropout", o.embedding_dropout},
          {"bag_dropout", o.bag_dropout},
          {"device", o.device}};
}

Json table_json(const data::MilTable& table, const std::string& title) {
  return {{"data", title},
          {"bags", table.bags.size()},
          {"positive_bags", table.labels().sum().item<int64_t>()},
          {"instances", count_instances(table)},
          {"features", table.features}};
}

Json to_json(const std::optional<std::string>& text) { return text ? Json(*text) : Json(nullptr); }

}  // namespace

std::string describe_run(const data::MilTable& table, const TrainOptions& options) {
  auto json = table_json(table, data_title(options.data));
  json.update(options_json(table, options));
  return examples::json_text(json, -1);
}

std::string first_line(const TrainOptions& o) {
  return fmt::format("hopfield {}, LibTorch {}, device {}, threads {}, seed {}", version(), TORCH_VERSION, o.device,
                     o.threads, o.seed);
}

std::string table_line(const data::MilTable& table, const std::string& title) {
  return fmt::format("{}: {} bags ({} positive), {} instances, {} features{}", title, table.bags.size(),
                     table.labels().sum().item<int64_t>(), count_instances(table), table.features, table_notes(table));
}

std::string result_line(const std::vector<FoldResult>& results, double seconds) {
  const auto auc = summarize(results, &FoldResult::auc), accuracy = summarize(results, &FoldResult::accuracy);
  return fmt::format(
      "ROC AUC {:.4f} +- {:.4f}, accuracy {:.4f} +- {:.4f} (mean and standard deviation of {} folds), {:.1f} s",
      auc.mean, auc.deviation, accuracy.mean, accuracy.deviation, results.size(), seconds);
}

void write_json(const std::string& path, const data::MilTable& table, const TrainOptions& options,
                const std::vector<FoldResult>& results, double seconds) {
  auto json = examples::json_header(options.command);
  json.update(table_json(table, options.data));
  json["options"] = options_json(table, options);
  json["options"].update({{"header", options.csv.header},
                          {"delimiter", options.csv.delimiter},
                          {"missing", to_json(options.csv.missing)},
                          {"positive", to_json(options.csv.positive)}});
  json["threads"] = options.threads;
  json["seconds"] = seconds;
  json["std_definition"] =
      "standard deviation of the folds' values: the root of their mean squared distance from the mean (n, not n - 1)";
  json["auc"] = to_json(summarize(results, &FoldResult::auc));
  json["accuracy"] = to_json(summarize(results, &FoldResult::accuracy));
  examples::write_json(path, json);
}

void write_scores(const std::string& path, const data::MilTable& table, const std::vector<FoldResult>& results) {
  std::string text = "repeat,fold,bag,label,score\n";
  for (const auto& result : results) {
    const auto probabilities = result.scores.sigmoid().to(at::kDouble);
    for (size_t i = 0; i < result.bags.size(); ++i) {
      const auto bag = result.bags[i];
      text += fmt::format("{},{},{},{},{:.9g}\n", result.repeat + 1, result.fold + 1, csv_cell(table.bag_ids[bag]),
                          csv_cell(table.label_texts[bag]), probabilities.data_ptr<double>()[i]);
    }
  }
  io::write_file(path, text);
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",;\t\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char character : text) quoted += character == '"' ? std::string("\"\"") : std::string(1, character);
  return quoted + '"';
}

}  // namespace hopfield::mil
