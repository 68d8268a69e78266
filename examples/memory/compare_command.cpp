#include "commands.h"
#include "common/console.h"
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

/// A memory with so many images, and what it made of a cue of each of them.
struct Trial {
  int64_t count = 0;
  MemoryOptions options;
  RecallResult result;
};

/// All trials of one kind of memory.
struct Line {
  std::string kind;
  at::Tensor truth;  // the first image as this memory holds it
  std::vector<Trial> trials;
};

Line try_memory(const std::string& kind, const Pictures& pictures, const CompareOptions& options) {
  Line line{kind, {}, {}};
  MemoryOptions wanted;
  wanted.kind = kind;
  for (const auto count : options.counts) {
    const auto stored = make_image_memory(first_of(pictures, count), options.images.threshold, wanted);
    const auto images = stored.images();
    line.truth = images[0];
    line.trials.push_back({count, stored.options,
                           recall_images(stored, images, at::arange(count, at::kLong), options.corruptions,
                                         options.seed, memory::RecallSettings().update_steps_max)});
  }
  return line;
}

const char* caption_of(const std::string& kind) {
  if (kind == "binary") return "binary network (1982)";
  if (kind == "graded") return "graded network (1984)";
  if (kind == "polynomial") return "polynomial (2016)";
  if (kind == "exponential") return "exponential (2017)";
  if (kind == "continuous") return "continuous (2020)";
  return "kernel (2025)";
}

at::Tensor draw(const std::vector<Line>& lines, const std::vector<int64_t>& counts) {
  examples::Grid grid;
  grid.column_captions = {"truth", "cue"};
  for (const auto count : counts) grid.column_captions.push_back(fmt::format("{} stored", count));
  for (const auto& line : lines) {
    auto& row = grid.rows.emplace_back();
    row.push_back({for_display(line.truth)});
    row.push_back({for_display(visible_cue(line.trials[0].result.cues, 0))});
    for (const auto& trial : line.trials) {
      const bool is_right = trial.result.outcomes[0] == Outcome::right;
      row.push_back({for_display(trial.result.retrieved[0]), is_right ? examples::kGreen : examples::kRed});
    }
    grid.row_captions.emplace_back(caption_of(line.kind));
  }
  grid.scale = scale_for(grid.rows[0][0].image);
  return examples::draw_grid(grid);
}

double share_right(const Trial& trial) {
  return static_cast<double>(trial.result.count(Outcome::right)) / static_cast<double>(trial.count);
}

void print_table(const std::vector<Line>& lines, const std::vector<int64_t>& counts) {
  auto header = fmt::format("{:<22}", "images that came back");
  for (const auto count : counts) header += fmt::format("{:>10}", fmt::format("of {}", count));
  examples::print(header);
  for (const auto& line : lines) {
    auto text = fmt::format("{:<22}", line.kind);
    for (const auto& trial : line.trials) text += fmt::format("{:>10}", trial.result.count(Outcome::right));
    examples::print(text);
  }
}

Json to_json(const std::vector<Line>& lines) {
  auto json = Json::array();
  for (const auto& line : lines) {
    for (const auto& trial : line.trials) {
      auto entry = json_of(trial.options);
      entry["stored"] = trial.count;
      entry["right"] = trial.result.count(Outcome::right);
      entry["wrong"] = trial.result.count(Outcome::wrong);
      entry["no_match"] = trial.result.count(Outcome::no_match);
      entry["share_right"] = share_right(trial);
      entry["first"] = name_of(trial.result.outcomes[0]);
      json.push_back(std::move(entry));
    }
  }
  return json;
}

/// As many images as the counts need, small enough for all memories.
Pictures pictures_for(const CompareOptions& options, std::string& remark) {
  auto pictures = read_pictures(options.images);
  const auto most = *std::max_element(options.counts.begin(), options.counts.end());
  if (most > pictures.size()) {
    throw UsageError{fmt::format("--counts: expected at most {}, the number of images, got {}", pictures.size(), most)};
  }
  return fitted(std::move(pictures), remark);
}

}  // namespace

int compare(const CompareOptions& options, const std::string& command) {
  std::vector<examples::NamedFile> inputs;
  for (const auto& path : options.images.paths) inputs.push_back({"--images", path});
  examples::check_outputs({{"--compare", options.picture}, {"--json", options.json}}, inputs);
  std::string remark;
  const auto pictures = pictures_for(options, remark);
  if (!options.quiet) {
    examples::print(examples::first_line("cpu"));
    if (!remark.empty()) examples::print(remark);
    examples::print(fmt::format("images of {}x{} pixels from {}, corruption: {}", pictures.width(), pictures.height(),
                                examples::shown(pictures.source), text_of(options.corruptions)));
  }
  const examples::Stopwatch watch;
  std::vector<Line> lines;
  for (const auto& kind : memory_kinds()) lines.push_back(try_memory(kind, pictures, options));
  const auto seconds = watch.seconds();
  examples::OutputFiles files;
  files.write({"--compare", options.picture},
              [&](const auto& path) { examples::write_image(path, draw(lines, options.counts)); });
  files.write({"--json", options.json}, [&](const auto& path) {
    auto json = examples::json_header(command);
    json["source"] = pictures.source;
    json["corruption"] = text_of(options.corruptions);
    json["seed"] = options.seed;
    json["seconds"] = seconds;
    json["trials"] = to_json(lines);
    examples::write_json(path, json);
  });
  const auto code = examples::report_files("hopfield_memory", files, options.quiet);
  print_table(lines, options.counts);
  return code;
}

}  // namespace hopfield::image_memory
