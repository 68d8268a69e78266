#include "options.h"

#include "common/command_line.h"
#include "common/device.h"
#include "common/options.h"
#include "common/report.h"
#include "common/text.h"
#include "corruption.h"
#include "memories.h"
#include <hopfield/version.h>

#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace hopfield::image_memory {
namespace {

using examples::add_choice;
using examples::add_file;
using examples::add_number;
using examples::add_whole_number;

constexpr const char* kComparedDigit = "3";  // images that are similar to each other
constexpr const char* kPicturePaths = "a PNG file or a folder";
constexpr int64_t kMostImages = 1000000, kMostSteps = 1000000, kMostRows = 1000, kMostOrder = 1000;

/// What --corrupt and --amount say.
struct CorruptionOptions {
  std::string kinds;
  std::vector<double> amounts;
};

void add_corruption_options(CLI::App& app, CorruptionOptions& o) {
  std::vector<std::string> kinds;
  for (const auto& kind : corruption_kinds()) kinds.push_back(fmt::format("{} ({})", kind.name, kind.meaning));
  const auto description = fmt::format("How images become cues: {}, {}; several with commas between them",
                                       kNoCorruption, examples::joined(kinds));
  examples::add_text(app, "--corrupt", o.kinds, "the names of corruptions", description)->type_name("NAMES");
  examples::add_numbers(app, "--amount", o.amounts, examples::kProbability,
                        "How much, a number from 0 to 1 for each of --corrupt");
}

std::vector<Corruption> finished(const CorruptionOptions& o) {
  std::vector<std::string> known{kNoCorruption};
  for (const auto& kind : corruption_kinds()) known.emplace_back(kind.name);
  std::vector<Corruption> corruptions;
  for (const auto& name : examples::split_at_commas(o.kinds)) {
    examples::check_choice("--corrupt", name, known);
    if (name != kNoCorruption) corruptions.push_back({name, default_amount(name)});
  }
  if (o.amounts.empty()) return corruptions;
  if (o.amounts.size() != corruptions.size()) {
    throw UsageError{fmt::format("--amount: expected a number for each corruption of --corrupt {}, got {}", o.kinds,
                                 o.amounts.size())};
  }
  for (size_t i = 0; i < corruptions.size(); ++i) corruptions[i].amount = o.amounts[i];
  return corruptions;
}

void add_image_options(CLI::App& app, ImageOptions& o) {
  examples::add_paths(app, "--images", o.paths, kPicturePaths,
                      "PNG files and folders of them; without it, the 8x8 digits that set-up installs");
  examples::add_image_size(app, "--size", o.size, "Resize the images to this size; needed if they differ in size");
  add_whole_number(app, "--count", o.count, 0, kMostImages, "Take only the first so many images; 0: all");
  add_choice(app, "--digit", o.digit, {"all", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
             "Which of the digits to take");
  add_number(app, "--threshold", o.threshold, examples::kProbability,
             "Grey above which a pixel is white where images have to be black and white; by default the mean of each "
             "image");
}

void add_memory_options(CLI::App& app, MemoryOptions& o) {
  add_choice(app, "--memory", o.kind, memory_kinds(), "The memory");
  add_choice(app, "--rule", o.rule, rule_names(), "Learning rule of binary, by default hebb");
  add_whole_number(app, "--order", o.order, 2, kMostOrder,
                   fmt::format("Degree n of F(x) = x^n of polynomial, by default {}", kDefaultOrder));
  add_choice(app, "--similarity", o.similarity, similarity_names(),
             "How continuous compares images, by default euclidean");
  add_number(app, "--beta", o.beta, examples::kAboveZero,
             "Inverse temperature of continuous and kernel; by default it follows from the images");
  add_number(app, "--gain", o.gain, examples::kAboveZero, "Gain of the neurons of graded, by default 10");
}

void add_results(CLI::App& app, std::string& json, bool& quiet) {
  add_file(app, "--json", json, "File for the results");
  app.add_flag("--quiet", quiet, "Print the result only");
}

void add_store_options(CLI::App& app, StoreOptions& o) {
  add_image_options(app, o.images);
  add_memory_options(app, o.memory);
  add_file(app, "--out", o.out, "File for the memory (safetensors)")->required();
  add_results(app, o.json, o.quiet);
}

void add_recall_options(CLI::App& app, RecallOptions& o, CorruptionOptions& corruption) {
  add_file(app, "--in", o.in, "Memory that `store` wrote")->required();
  examples::add_paths(
      app, "--cues", o.cues, kPicturePaths,
      "PNG files and folders of your own cues, not corrupted unless --corrupt is given; without it, the stored "
      "images, of which half is hidden unless --corrupt is given");
  add_corruption_options(app, corruption);
  examples::add_seed(app, "--seed", o.seed, "Seed of the corruption and of the order of updates");
  add_whole_number(app, "--count", o.count, 0, kMostImages, "Take only the first so many cues; 0: all");
  add_whole_number(app, "--update-steps", o.update_steps, -1, kMostSteps,
                   "Most updates, or sweeps over all pixels; -1: until converged");
  add_file(app, "--grid", o.grid, {".png"}, "Picture of cues, retrieved and true images");
  add_whole_number(app, "--show", o.show, 1, kMostRows, "Most cues in the picture");
  examples::add_device(app, o.device);
  add_results(app, o.json, o.quiet);
}

void add_show_options(CLI::App& app, ShowOptions& o) {
  add_file(app, "--in", o.in, "Memory that `store` wrote")->required();
  add_file(app, "--grid", o.grid, {".png"}, "Picture of the stored images");
  add_whole_number(app, "--show", o.show, 1, kMostRows, "Most images in the picture");
  add_results(app, o.json, o.quiet);
}

void add_compare_options(CLI::App& app, CompareOptions& o, CorruptionOptions& corruption) {
  add_file(app, "--compare", o.picture, {".png"},
           "Store some images in every memory, and draw what each gives back for the same cue");
  examples::add_whole_numbers(app, "--counts", o.counts, 1, kMostRows, "How many images are stored");
  add_image_options(app, o.images);
  add_corruption_options(app, corruption);
  examples::add_seed(app, "--seed", o.seed, "Seed of the corruption and of the order of updates");
  add_results(app, o.json, o.quiet);
}

CompareOptions finished(CompareOptions o, const CorruptionOptions& corruption) {
  if (o.picture.empty()) {
    throw UsageError{"expected a command (store, recall or show) or --compare FILE.png, got neither; see --help"};
  }
  if (!o.images.is_digits() && o.images.digit == kComparedDigit) o.images.digit = kAnyDigit;
  o.corruptions = finished(corruption);
  return o;
}

RecallOptions finished(RecallOptions o, CorruptionOptions corruption) {
  if (corruption.kinds.empty()) corruption.kinds = o.cues.empty() ? "half" : kNoCorruption;
  o.corruptions = finished(corruption);
  return o;
}

}  // namespace

std::optional<Request> parse_command_line(int argc, char** argv) {
  Request request;
  StoreOptions store;
  RecallOptions recall;
  ShowOptions show;
  CompareOptions compare;
  compare.images.digit = kComparedDigit;
  CorruptionOptions recall_corruption, compare_corruption{"half", {}};
  examples::CommandLine line("hopfield_memory",
                             "Stores images in associative memories, and recalls them from corrupted cues.",
                             fmt::format("hopfield_memory {} (LibTorch {})", version(), TORCH_VERSION));
  add_compare_options(line.app(), compare, compare_corruption);
  auto& store_command = line.add_command("store", "Store images in a memory, and save it");
  add_store_options(store_command, store);
  auto& recall_command = line.add_command("recall", "Recall images from corrupted ones, or from your own cues");
  add_recall_options(recall_command, recall, recall_corruption);
  auto& show_command = line.add_command("show", "Show what is in the file of a memory");
  add_show_options(show_command, show);
  if (!line.parse(argc, argv)) return std::nullopt;
  request.command = examples::command_text(argc, argv);
  if (store_command.parsed()) {
    check_kind(store.memory);
    request.store = store;
  } else if (recall_command.parsed()) {
    request.recall = finished(recall, recall_corruption);
  } else if (show_command.parsed()) {
    request.show = show;
  } else {
    request.compare = finished(compare, compare_corruption);
  }
  return request;
}

}  // namespace hopfield::image_memory
