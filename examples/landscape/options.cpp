#include "options.h"

#include "common/command_line.h"
#include "common/options.h"
#include "common/report.h"
#include <hopfield/version.h>

#include <torch/version.h>

#include <fmt/format.h>

namespace hopfield::landscape {
namespace {

using examples::add_choice;
using examples::add_file;
using examples::add_whole_number;

constexpr size_t kMostPanels = 9;

void add_options(CLI::App& app, Options& o) {
  add_file(app, "--out", o.out, {".png", ".svg"}, "File for the picture")->required();
  add_file(app, "--patterns", o.patterns, "CSV file of patterns, x and y in each row; without it, six are built in");
  add_choice(app, "--memory", o.memory, {"continuous", "kernel"}, "The memory");
  add_choice(app, "--similarity", o.similarity, {"dot", "euclidean"},
             "How the continuous memory compares states and patterns, by default dot");
  examples::add_numbers(
      app, "--beta", o.betas, examples::kAboveZero,
      "Inverse temperatures, one for each panel, with commas between them; by default three that follow "
      "from the patterns");
  add_whole_number(app, "--starts", o.starts, 1, 50, "So many rows and columns of states from which updates start");
  add_whole_number(app, "--resolution", o.resolution, 2, 1000, "Rows and columns of points at which energy is drawn");
  examples::add_seed(app, "--seed", o.seed, "Seed of the small offsets that keep starts from symmetric positions");
  add_file(app, "--json", o.json, "File for the fixed points");
  app.add_flag("--quiet", o.quiet, "Print the result only");
}

void check(const Options& o) {
  if (o.similarity && o.memory != "continuous") {
    throw UsageError{"--similarity: expected it with --memory continuous only, got it with " + o.memory};
  }
  if (o.betas.size() > kMostPanels) {
    throw UsageError{fmt::format("--beta: expected at most {} numbers, got {}", kMostPanels, o.betas.size())};
  }
}

}  // namespace

std::optional<Options> parse_command_line(int argc, char** argv) {
  Options options;
  examples::CommandLine line("hopfield_landscape",
                             "Draws the energy of a memory of patterns in two dimensions, and where its updates lead.",
                             fmt::format("hopfield_landscape {} (LibTorch {})", version(), TORCH_VERSION));
  add_options(line.app(), options);
  if (!line.parse(argc, argv)) return std::nullopt;
  options.command = examples::command_text(argc, argv);
  check(options);
  return options;
}

}  // namespace hopfield::landscape
