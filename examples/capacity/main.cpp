// Measures how many patterns the memories hold, beside what the literature says.
//
//   build/cpu/bin/hopfield_capacity --chart capacity.png --json capacity.json
//   build/cpu/bin/hopfield_capacity --memory binary --quick
//
// Last line of the first call, which takes about four minutes on two cores:
//   15 of 15 figures are where the literature has them

#include "common/chart.h"
#include "common/command_line.h"
#include "common/console.h"
#include "common/errors.h"
#include "common/options.h"
#include "common/output_files.h"
#include "common/report.h"
#include "common/text.h"
#include "measure.h"
#include <hopfield/io/file.h>
#include <hopfield/version.h>

#include <torch/version.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <utility>

namespace hopfield::capacity {
namespace {

struct Options {
  std::string memory = "all", chart, json;
  uint64_t seed = 0;
  bool quick = false, quiet = false;
};

const std::pair<const char*, Measured (*)(const Effort&)> kMemories[] = {{"binary", measure_binary},
                                                                         {"polynomial", measure_polynomial},
                                                                         {"exponential", measure_exponential},
                                                                         {"continuous", measure_continuous}};

std::vector<std::string> memory_names() {
  std::vector<std::string> names{"all"};
  for (const auto& [name, measure] : kMemories) names.emplace_back(name);
  return names;
}

examples::Chart chart_of(const Panel& panel) {
  examples::Chart chart;
  chart.title = panel.title;
  chart.x.label = panel.x, chart.y.label = panel.y;
  int64_t color = -1;
  for (const auto& curve : panel.curves) {
    if (!curve.is_theory || !curve.is_of_last) ++color;
    examples::Series series{curve.name, curve.x, curve.y};
    series.style = curve.is_theory ? examples::SeriesStyle::dashed : examples::SeriesStyle::both;
    series.color = color;
    chart.series.push_back(series);
  }
  return chart;
}

nlohmann::json json_of(const Panel& panel) {
  auto curves = nlohmann::json::array();
  for (const auto& curve : panel.curves) {
    curves.push_back({{"name", curve.name}, {"theory", curve.is_theory}, {"x", curve.x}, {"y", curve.y}});
  }
  return {{"title", panel.title}, {"x", panel.x}, {"y", panel.y}, {"curves", curves}};
}

int run(int argc, char** argv) {
  Options options;
  examples::CommandLine line("hopfield_capacity", "Measures how many patterns the memories hold.",
                             fmt::format("hopfield_capacity {} (LibTorch {})", version(), TORCH_VERSION));
  const auto names = memory_names();
  examples::add_text(line.app(), "--memory", options.memory, "a memory's name", "Which: " + examples::joined(names));
  examples::add_seed(line.app(), "--seed", options.seed, "Seed of the patterns");
  line.app().add_flag("--quick", options.quick, "A tenth of the networks and recalls: seconds in place of minutes");
  examples::add_file(line.app(), "--chart", options.chart, {".png", ".svg"}, "Picture of recall against load");
  examples::add_file(line.app(), "--json", options.json, "File for the figures and curves");
  line.app().add_flag("--quiet", options.quiet, "Print the last line only");
  if (!line.parse(argc, argv)) return examples::kDone;
  if (std::find(names.begin(), names.end(), options.memory) == names.end()) {
    throw examples::UsageError{"--memory: expected one of " + examples::joined(names) + ", got " +
                               examples::quote(options.memory) + examples::suggestion(options.memory, names)};
  }
  const examples::NamedFile chart{"--chart", options.chart}, json{"--json", options.json};
  examples::check_outputs({chart, json}, {});

  Effort effort;
  effort.seed = options.seed;
  if (options.quick) effort.networks = 2, effort.recalls = 50, effort.scale = 0.1;
  std::vector<examples::Chart> charts;
  auto results = nlohmann::json::array(), panels = nlohmann::json::array();
  int64_t held = 0, all = 0;
  for (const auto& [name, measure] : kMemories) {
    if (options.memory != "all" && options.memory != name) continue;
    const auto begin = std::chrono::steady_clock::now();
    const auto measured = measure(effort);
    const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    for (const auto& figure : measured.figures) {
      if (!options.quiet) {
        examples::print(fmt::format("{}: {:.5g}, literature {:.5g}{}", figure.name, figure.measured, figure.expected,
                                    figure.holds() ? "" : "  (outside of what was expected)"));
      }
      held += figure.holds(), ++all;
      results.push_back({{"name", figure.name},
                         {"measured", figure.measured},
                         {"literature", figure.expected},
                         {"least", figure.least},
                         {"most", figure.most},
                         {"holds", figure.holds()}});
    }
    if (!options.quiet) examples::print(fmt::format("-- {} took {:.0f} s", name, seconds));
    charts.push_back(chart_of(measured.panel));
    panels.push_back(json_of(measured.panel));
  }
  examples::OutputFiles files;
  examples::write_picture("hopfield_capacity", files, chart, charts);
  files.write(json, [&](const auto& to) {
    const nlohmann::json content{
        {"seed", options.seed}, {"quick", options.quick}, {"figures", results}, {"panels", panels}};
    io::write_file(to, content.dump(2) + "\n");
  });
  const auto code = examples::report_files("hopfield_capacity", files, options.quiet);
  examples::print(fmt::format("{} of {} figures are where the literature has them", held, all));
  return code;
}

}  // namespace
}  // namespace hopfield::capacity

int main(int argc, char** argv) {
  return hopfield::examples::run_program("hopfield_capacity", [&] { return hopfield::capacity::run(argc, argv); });
}
