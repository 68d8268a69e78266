// Draws the energy of a memory of patterns in two dimensions, and where its updates lead: to the average of all
// patterns where beta is small, to metastable states between a few of them, and to single patterns where it is large.
//
//   build/cpu/bin/hopfield_landscape --out landscape.png
//   build/cpu/bin/hopfield_landscape --patterns points.csv --beta 0.5,4,30 --out landscape.svg --json landscape.json
//   build/cpu/bin/hopfield_landscape --memory kernel --out kernel.png
//
// Last lines of the first call:
//   beta 0.7: 1 fixed point (1 global average)
//   beta 6: 4 fixed points (2 single patterns, 2 metastable states)
//   beta 40: 6 fixed points (6 single patterns)

#include "common/console.h"
#include "common/output_files.h"
#include "common/progress.h"
#include "common/report.h"
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
  examples::OutputFiles files;
  examples::write_picture(kProgram, files, {"--out", options->out}, charts);
  files.write({"--json", options->json}, [&](const auto& path) { write_report(path, landscapes, patterns, *options); });
  if (!files.written().empty() && !options->quiet) {
    examples::print(fmt::format("wrote {} in {:.1f} s", examples::joined(files.written()), watch.seconds()));
  }
  for (const auto& landscape : landscapes) examples::print(line_of(landscape));
  return examples::report_failures(kProgram, files);
}

}  // namespace
}  // namespace hopfield::landscape

int main(int argc, char** argv) {
  return hopfield::examples::run_program(hopfield::landscape::kProgram,
                                         [&] { return hopfield::landscape::run(argc, argv); });
}
