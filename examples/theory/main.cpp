// Says what the theory of modern Hopfield networks guarantees for patterns, and what is observed when queries are
// updated: a page of text, charts, and numbers for each pattern and query.
//
//   build/cpu/bin/hopfield_theory --chart theory.png
//   build/cpu/bin/hopfield_theory --patterns table.csv --labelled --normalize layer --beta 2 --json theory.json
//   build/cpu/bin/hopfield_theory --patterns model.safetensors --tensor keys --k90 1
//   build/cpu/bin/hopfield_theory --patterns my_pictures --size 32x32 --noise 0.1
//
// Last line of the first call, with the digits that scripts/bootstrap.sh --tests installs:
//   69 of 1797 patterns are well separated at beta 0.125, never all of them; theorems 4 and 5 speak about 36 of 1000 ..

#include "common/console.h"
#include "common/output_files.h"
#include "common/progress.h"
#include "common/report.h"
#include "options.h"
#include "report.h"
#include "rows.h"
#include <hopfield/theory/fixed_points.h>

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <cmath>

namespace hopfield::theory_report {
namespace {

constexpr auto kProgram = "hopfield_theory";

double beta_for(const at::Tensor& patterns, const Options& options) {
  if (options.beta) return *options.beta;
  if (options.k90) return reading("--k90", [&] { return theory::suggest_beta(patterns, *options.k90); });
  return 1 / std::sqrt(static_cast<double>(patterns.size(1)));
}

Analysis analyse(const Options& options) {
  Analysis analysis;
  analysis.patterns = read_patterns(options);
  analysis.queries = read_queries(analysis.patterns, options);
  const examples::Stopwatch watch;
  const auto& patterns = analysis.patterns.values;
  const auto beta = beta_for(patterns, options);
  analysis.report = reading("--patterns", [&] { return theory::report(patterns, beta, analysis.queries.values); });
  if (!options.chart.empty() || !options.json.empty()) analysis.curve = retrieval_curve(patterns, beta);
  analysis.seconds = watch.seconds();
  return analysis;
}

int run(int argc, char** argv) {
  const auto options = parse_command_line(argc, argv);
  if (!options) return examples::kDone;
  std::vector<examples::NamedFile> inputs;
  for (const auto& path : options->patterns) inputs.push_back({"--patterns", path});
  for (const auto& path : options->queries) inputs.push_back({"--queries", path});
  examples::check_outputs({{"--chart", options->chart}, {"--json", options->json}}, inputs);
  const auto analysis = analyse(*options);
  if (!options->quiet) {
    examples::print(examples::first_line("cpu"));
    examples::print(analysis.report.page());
  }
  examples::OutputFiles files;
  if (!options->chart.empty()) {
    examples::write_picture(kProgram, files, {"--chart", options->chart}, charts_of(analysis));
  }
  files.write({"--json", options->json}, [&](const auto& path) { write_json(path, analysis, *options); });
  const auto code = examples::report_files(kProgram, files, options->quiet);
  examples::print(line_of(analysis));
  return code;
}

}  // namespace
}  // namespace hopfield::theory_report

int main(int argc, char** argv) {
  return hopfield::examples::run_program(hopfield::theory_report::kProgram,
                                         [&] { return hopfield::theory_report::run(argc, argv); });
}
