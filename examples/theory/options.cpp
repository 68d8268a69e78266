#include "options.h"

#include "common/command_line.h"
#include "common/options.h"
#include "common/report.h"
#include <hopfield/version.h>

#include <torch/version.h>

#include <fmt/format.h>

namespace hopfield::theory_report {
namespace {

using examples::add_file;
using examples::add_number;
using examples::add_paths;
using examples::add_whole_number;

constexpr const char* kPaths = "a CSV file, a safetensors file, a PNG file or a folder of PNG files";
constexpr int64_t kMost = 1000000000;

void add_options(CLI::App& app, Options& o) {
  add_paths(
      app, "--patterns", o.patterns, kPaths,
      "CSV files with a pattern in each row, safetensors files, or PNG files and folders of them; without it, the "
      "8x8 digits that set-up installs, with pixels from 0 to 16");
  add_paths(app, "--queries", o.queries, kPaths,
            "The same for states to start from; without it, the patterns themselves");
  examples::add_text(app, "--tensor", o.tensor, "the name of a tensor",
                     "Which tensor of a safetensors file to take, if it has several; dimensions behind the first are "
                     "flattened");
  app.add_flag("--labelled", o.labelled, "The last column of CSV files is a label, which is left out");
  examples::add_image_size(app, "--size", o.size, "Resize images to this size; needed if they differ in size");
  add_whole_number(app, "--count", o.count, 0, kMost, "Take only the first so many patterns; 0: all");
  examples::add_choice(app, "--normalize", o.normalize, {"none", "unit", "layer"},
                       "Normalize patterns and queries (unit: to length 1; layer: LayerNorm, as the layers do)");
  add_number(app, "--noise", o.noise, {0, 1e6},
             "Standard deviation of the noise that is added to each number of a query");
  examples::add_seed(app, "--seed", o.seed, "Seed of the noise");
  add_number(app, "--beta", o.beta, examples::kAboveZero,
             "Inverse temperature, by default 1 / sqrt(features) as in the layers");
  add_whole_number(app, "--k90", o.k90, 1, kMost,
                   "Choose beta so that half of the patterns retrieve at most so many patterns");
  add_file(app, "--chart", o.chart, {".png", ".svg"},
           "File for charts of the separations, of the energy along updates and of k90 against beta");
  add_file(app, "--json", o.json, "File for the results, with those of each pattern and query");
  app.add_flag("--quiet", o.quiet, "Print the last line only");
}

void check(const Options& o) {
  if (o.beta && o.k90) throw UsageError{"--k90: expected either --beta or --k90, got both"};
}

}  // namespace

std::optional<Options> parse_command_line(int argc, char** argv) {
  Options options;
  examples::CommandLine line("hopfield_theory",
                             "Says what the theory of modern Hopfield networks guarantees for patterns, and what is "
                             "observed when queries are updated.",
                             fmt::format("hopfield_theory {} (LibTorch {})", version(), TORCH_VERSION));
  add_options(line.app(), options);
  if (!line.parse(argc, argv)) return std::nullopt;
  options.command = examples::command_text(argc, argv);
  check(options);
  return options;
}

}  // namespace hopfield::theory_report
