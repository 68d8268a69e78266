// Draws the energy of a memory of patterns in two dimensions, and where its updates lead: to the average of all
// patterns where beta is small, to metastable states between a few of them, and to single patterns where it is large.
//
//   build/cpu/bin/hopfield_landscape --out landscape.png
//   build/cpu/bin/hopfield_landscape --patterns points.csv --similarity euclidean --beta 0.5,4,30 --out landscape.svg

#include "common/console.h"
#include "common/output_files.h"
#include "common/progress.h"
#include "common/text.h"
#include "landscape.h"
#include "options.h"
#include "report.h"
#include <hopfield/version.h>

#include <torch/version.h>

#include <fmt/format.h>

namespace hopfield::landscape {
namespace {

constexpr auto kProgram = "hopfield_landscape";

int run(int argc, char** argv) {
  const auto options = parse_command_line(argc, argv);
  if (!options) return examples::kDone;
  examples::check_outputs({{"--out", options->out}, {"--json", options->json}}, {{"--patterns", options->patterns}});
  const auto patterns = read_patterns(options->patterns);
  if (!options->quiet) {
    examples::print(fmt::format("hopfield {}, LibTorch {}, {} patterns, {} starts, seed {}", version(), TORCH_VERSION,
                                patterns.size(0), options->starts * options->starts, options->seed));
  }
  const examples::Stopwatch watch;
  const auto frame = frame_around(patterns);
  std::vector<Landscape> landscapes;
  std::vector<examples::Chart> charts;
  for (const auto beta : options->betas.empty() ? default_betas(patterns, *options) : options->betas) {
    landscapes.push_back(explore(patterns, frame, beta, *options));
    charts.push_back(chart_of(landscapes.back(), patterns, frame));
  }
  std::string remark;
  examples::OutputFiles files;
  files.write({"--out", options->out}, [&](const auto& path) { remark = examples::write_charts(path, charts); });
  files.write({"--json", options->json}, [&](const auto& path) { write_report(path, landscapes, patterns, *options); });
  if (!remark.empty()) examples::print_error(std::string(kProgram) + ": " + remark);
  if (!files.written().empty() && !options->quiet) {
    examples::print(fmt::format("wrote {} in {:.1f} s", examples::joined(files.written()), watch.seconds()));
  }
  for (const auto& landscape : landscapes) examples::print(line_of(landscape));
  for (const auto& failure : files.failures()) examples::print_error(std::string(kProgram) + ": " + failure);
  return files.failures().empty() ? examples::kDone : examples::kFailed;
}

}  // namespace
}  // namespace hopfield::landscape

int main(int argc, char** argv) {
  return hopfield::examples::run_program(hopfield::landscape::kProgram,
                                         [&] { return hopfield::landscape::run(argc, argv); });
}
