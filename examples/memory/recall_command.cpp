#include "commands.h"
#include "common/console.h"
#include "common/device.h"
#include "common/progress.h"
#include "common/report.h"
#include "common/text.h"
#include "display.h"
#include "recall.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace hopfield::image_memory {
namespace {

using Json = nlohmann::ordered_json;

/// What is to be recalled: prepared images, their names, and which stored images they should give.
struct Task {
  at::Tensor images, truth;
  std::vector<std::string> names;
  std::string source;
};

Task stored_images(const ImageMemory& stored, int64_t count) {
  const auto some = first_of({stored.images(), stored.names, "the stored images"}, count);
  return {some.images, at::arange(some.size(), at::kLong), some.names, some.source};
}

/// The user's own cues. Where one has the name of a stored image, that is the one it should give.
Task own_cues(const ImageMemory& stored, const RecallOptions& options) {
  const auto cues = first_of(examples::read_pictures("--cues", options.cues, stored.format.size()), options.count);
  auto truth = at::full({cues.size()}, -1, at::kLong);
  for (int64_t i = 0; i < cues.size(); ++i) {
    const auto& names = stored.names;
    const auto found = std::find(names.begin(), names.end(), cues.names[static_cast<size_t>(i)]);
    if (found != names.end()) truth[i] = static_cast<int64_t>(found - names.begin());
  }
  return {stored.format.prepared(cues.images), truth, cues.names, cues.source};
}

double share(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::string percent(int64_t part, int64_t whole) { return fmt::format("{:.1f} %", 100 * share(part, whole)); }

double mean_steps(const RecallResult& result) { return result.steps.to(at::kDouble).mean().item<double>(); }

/// "right 97.7 %, wrong 2.1 %, no match 0.2 % of 1797 cues; ..."
std::string result_line(const RecallResult& result, double seconds) {
  const auto whole = result.size(), settled = result.converged.sum().item<int64_t>();
  std::vector<std::string> parts;
  for (const auto outcome : {Outcome::right, Outcome::wrong, Outcome::unknown, Outcome::no_match}) {
    const auto count = result.count(outcome);
    const bool is_of_interest = outcome == Outcome::unknown    ? result.with_truth < whole
                                : outcome == Outcome::no_match ? true
                                                               : result.with_truth > 0;
    if (!is_of_interest) continue;
    parts.push_back((outcome == Outcome::unknown ? std::string("came back") : name_of(outcome)) + " " +
                    percent(count, whole));
  }
  auto line = fmt::format("{} of {} cue{}", examples::joined(parts), whole, whole == 1 ? "" : "s");
  if (result.with_truth > 0) {
    line += fmt::format("; nearest neighbour of the cue right {}", percent(result.neighbour_right, result.with_truth));
  }
  return line + fmt::format("; steps {:.1f} on average, {} at most, converged {}; {:.1f} s", mean_steps(result),
                            result.steps.max().item<int64_t>(), percent(settled, whole), seconds);
}

Json to_json(int64_t count, int64_t whole) { return {{"count", count}, {"share", share(count, whole)}}; }

/// The name of a stored image, or null.
Json name_or_null(const ImageMemory& stored, const at::Tensor& number) {
  const auto i = number.item<int64_t>();
  return i < 0 ? Json(nullptr) : Json(stored.names[static_cast<size_t>(i)]);
}

Json cues_json(const ImageMemory& stored, const Task& task, const RecallResult& result) {
  auto json = Json::array();
  for (int64_t i = 0; i < result.size(); ++i) {
    const auto at = static_cast<size_t>(i);
    const auto energy = result.energy[i].item<double>();
    json.push_back({{"cue", task.names[at]},
                    {"outcome", name_of(result.outcomes[at])},
                    {"truth", name_or_null(stored, result.truth[i])},
                    {"match", name_or_null(stored, result.match[i])},
                    {"steps", result.steps[i].item<int64_t>()},
                    {"converged", result.converged[i].item<bool>()},
                    {"energy", std::isfinite(energy) ? Json(energy) : Json(nullptr)}});
  }
  return json;
}

Json result_json(const ImageMemory& stored, const Task& task, const RecallResult& result, const RecallOptions& options,
                 const std::string& command, double seconds) {
  auto json = examples::json_header(command);
  json["memory"] = json_of(stored);
  json["source"] = task.source;
  auto& corruptions = json["corruptions"] = Json::array();
  for (const auto& [kind, amount] : options.corruptions) corruptions.push_back({{"kind", kind}, {"amount", amount}});
  json["seed"] = options.seed;
  json["update_steps"] = options.update_steps;
  json["device"] = options.device;
  json["seconds"] = seconds;
  json["cues"] = result.size();
  json["with_truth"] = result.with_truth;
  json["right"] = to_json(result.count(Outcome::right), result.size());
  json["wrong"] = to_json(result.count(Outcome::wrong), result.size());
  json["no_match"] = to_json(result.count(Outcome::no_match), result.size());
  json["unknown"] = to_json(result.count(Outcome::unknown), result.size());
  json["closest_right"] = to_json(result.closest_right, result.with_truth);
  json["nearest_neighbour_right"] = to_json(result.neighbour_right, result.with_truth);
  json["steps"] = {{"mean", mean_steps(result)}, {"most", result.steps.max().item<int64_t>()}};
  json["converged"] = to_json(result.converged.sum().item<int64_t>(), result.size());
  json["each"] = cues_json(stored, task, result);
  return json;
}

std::string row_caption(const ImageMemory& stored, const Task& task, const RecallResult& result, int64_t i) {
  const auto outcome = result.outcomes[static_cast<size_t>(i)];
  const auto name = short_name(task.names[static_cast<size_t>(i)]);
  if (outcome == Outcome::right || outcome == Outcome::no_match) return name + ": " + name_of(outcome);
  const auto match = short_name(stored.names[static_cast<size_t>(result.match[i].item<int64_t>())]);
  return name + ": " + (outcome == Outcome::wrong ? "wrong, " : "gives ") + match;
}

/// Rows of cue, retrieved and true image, of a sample of the cues.
at::Tensor draw(const ImageMemory& stored, const Task& task, const RecallResult& result, int64_t show) {
  examples::Grid grid;
  grid.column_captions = {"cue", "retrieved"};
  if (result.with_truth > 0) grid.column_captions.emplace_back("truth");
  const auto truths = stored.images();
  for (const auto i : evenly(result.size(), show)) {
    const auto outcome = result.outcomes[static_cast<size_t>(i)];
    examples::Grid::Cell retrieved{for_display(result.retrieved[i])};
    if (outcome == Outcome::right) retrieved.frame = examples::kGreen;
    if (outcome == Outcome::wrong || outcome == Outcome::no_match) retrieved.frame = examples::kRed;
    auto& row = grid.rows.emplace_back();
    row.push_back({for_display(visible_cue(result.cues, i))});
    row.push_back(retrieved);
    const auto truth = result.truth[i].item<int64_t>();
    if (truth >= 0) row.push_back({for_display(truths[truth])});
    grid.row_captions.push_back(row_caption(stored, task, result, i));
  }
  grid.scale = scale_for(grid.rows[0][0].image);
  return examples::draw_grid(grid);
}

}  // namespace

int recall(const RecallOptions& options, const std::string& command) {
  examples::check_device(options.device);
  std::vector<examples::NamedFile> inputs{{"--in", options.in}};
  for (const auto& path : options.cues) inputs.push_back({"--cues", path});
  examples::check_outputs({{"--grid", options.grid}, {"--json", options.json}}, inputs);
  const auto stored = load(options.in, options.device);
  const auto task = options.cues.empty() ? stored_images(stored, options.count) : own_cues(stored, options);
  if (!options.quiet) {
    examples::print(examples::first_line(options.device));
    examples::print(text_of(stored));
    examples::print(fmt::format("{} cue{} from {}, corruption: {}", task.images.size(0),
                                task.images.size(0) == 1 ? "" : "s", examples::shown(task.source),
                                text_of(options.corruptions)));
  }
  const examples::Stopwatch watch;
  const auto result =
      recall_images(stored, task.images, task.truth, options.corruptions, options.seed, options.update_steps);
  const auto seconds = watch.seconds();
  examples::OutputFiles files;
  files.write({"--grid", options.grid},
              [&](const auto& path) { examples::write_image(path, draw(stored, task, result, options.show)); });
  files.write({"--json", options.json}, [&](const auto& path) {
    examples::write_json(path, result_json(stored, task, result, options, command, seconds));
  });
  const auto code = examples::report_files("hopfield_memory", files, options.quiet);
  examples::print(result_line(result, seconds));
  return code;
}

}  // namespace hopfield::image_memory
