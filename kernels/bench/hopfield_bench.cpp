// Times the layers and the op hopfield::retrieve; with --peer sdpa also the same work by LibTorch's attention.
//
//   build/bench/bin/hopfield_bench --peer sdpa
//   build/bench/bin/hopfield_bench pooling/1/100000/256/8/32/1/3/train/float32 --threads 2
//   build/bench/bin/hopfield_bench --memory pooling/1/100000/256/8/32/1/3
//
// The output ends with a table of medians in milliseconds, their ratio, and the speed of the machine in the same run.
//
//   build/cuda/bin/hopfield_bench --device cuda --seconds 300 --json gpu.json --table gpu.md
//   build/bench/bin/hopfield_bench --device cpu --scale 0.001
//
// The first of these makes a report on a GPU: all backends of LibTorch's attention, memory bandwidth, errors. The
// second makes the same report on the CPU with a thousandth of the data.

#include "kernels/bench/case.h"
#include "kernels/bench/contest.h"
#include "kernels/bench/device.h"
#include "kernels/bench/memory.h"
#include "kernels/bench/report.h"
#include <hopfield/version.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <limits>
#include <map>

namespace hopfield::bench {
namespace {

/// Prints to the console and collects the medians.
class Medians : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const auto& run : runs) {
      if (run.aggregate_name == "median") milliseconds[run.run_name.function_name] = run.GetAdjustedRealTime();
    }
  }
  std::map<std::string, double> milliseconds;
};

/// Seconds of the fastest of some calls on the CPU.
double fastest(const std::function<void()>& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 8; ++i) best = std::min(best, seconds_per_call(at::kCPU, work, 1));
  return best;
}

void print_memory(const std::vector<Case>& cases) {
  fmt::print("\n{:<50} {:>10} {:>10} {:>10} {:>10}\n", "peak of extra memory", "hopfield", "", "sdpa", "");
  fmt::print("{:<50} {:>10} {:>10} {:>10} {:>10}\n", "", "MB", "of input", "MB", "of input");
  for (const auto& c : cases) {
    fmt::print("{:<50}", c.name());
    for (const auto* contender : {"hopfield", "sdpa"}) {
      const auto memory = extra_memory_elsewhere(c, contender);
      const auto bytes = static_cast<double>(memory.extra_bytes);
      fmt::print(" {:>10.1f} {:>9.1f}%", bytes / 1e6, 100 * bytes / static_cast<double>(memory.input_bytes));
      std::fflush(stdout);
    }
    fmt::print("\n");
  }
}

using Milliseconds = std::map<std::string, double>;

void print_medians(const std::vector<Case>& cases, const std::string& peer, const Milliseconds& milliseconds) {
  fmt::print("\n{:<50} {:>10} {:>10} {:>7}\n", "median, ms", "hopfield", peer.empty() ? "" : "sdpa",
             peer.empty() ? "" : "ratio");
  for (const auto& c : cases) {
    const auto ours = milliseconds.at(c.name());
    if (peer.empty()) {
      fmt::print("{:<50} {:>10.2f}\n", c.name(), ours);
    } else {
      const auto theirs = milliseconds.at(c.name() + " sdpa");
      fmt::print("{:<50} {:>10.2f} {:>10.2f} {:>7.2f}\n", c.name(), ours, theirs, theirs / ours);
    }
  }
}

nlohmann::ordered_json medians_as_json(const std::vector<Case>& cases, const std::string& peer,
                                       const Milliseconds& milliseconds) {
  nlohmann::ordered_json json{{"version", version()}, {"threads", at::get_num_threads()}};
  for (const auto& c : cases) {
    auto& entry = json["milliseconds"][c.name()];
    entry["hopfield"] = milliseconds.at(c.name());
    if (!peer.empty()) entry[peer] = milliseconds.at(c.name() + " " + peer);
  }
  return json;
}

void print_machine_rates() {
  const auto a = at::randn({2048, 2048}), b = at::randn({2048, 2048}), c = at::empty({2048, 2048});
  auto out = c;
  const auto product = fastest([&] { at::mm_out(out, a, b); });
  const auto memory = at::randn({1 << 26});  // 256 MiB
  const auto reading = fastest([&] { memory.sum(); });
  fmt::print("float32 matrix products {:.0f} GFLOP/s, memory read {:.1f} GB/s\n",
             2 * 2048.0 * 2048 * 2048 / product / 1e9, static_cast<double>(memory.nbytes()) / reading / 1e9);
}

void add(const std::string& name, const Work& work) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [run = work.run](benchmark::State& state) {
                                 run();
                                 for (auto _ : state) run();
                               })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

/// Prints to stderr what is wrong with the arguments. Returns the program's exit code.
int refuse(const std::string& sentence) {
  fmt::print(stderr, "hopfield_bench: {}\n", sentence);
  return 2;
}

/// Makes the report of --device cuda and --scale, or runs each of its cases once.
int run_report(std::vector<Case> cases, const ReportOptions& options, bool once) {
  if (const auto reason = why_not_on(options.device)) return refuse("--device cuda: " + *reason);
  for (auto& c : cases) {
    c = scaled(c, options.scale);
    c.device = options.device;
  }
  if (!once) return report(cases, options);
  for (const auto& c : cases) {
    library_work(c).run();
    synchronize(options.device);
    fmt::print("{}\n", c.name());
  }
  return 0;
}

int run(int argc, char** argv) {
  std::vector<std::string> names, backends;
  std::string peer;
  bool list = false, memory = false, once = false;
  std::string measured, json;
  int repetitions = 5, threads = 0;
  std::string device = "cpu", table;
  double seconds = 300, scale = 1;
  const std::vector<std::string> known_backends(kPeers.begin(), kPeers.end());
  CLI::App app{"Times the layers and the op; without names, a default set of cases."};
  app.option_defaults()->always_capture_default();
  app.add_option("cases", names,
                 "Cases, for example self/8/512/512/8/64/3/train/float32; /train/float32 may be left out");
  app.add_option("--peer", peer, "Time the same work by LibTorch's attention too")->check(CLI::IsMember({"sdpa"}));
  app.add_option("--repetitions", repetitions, "Measurements of which the median is taken")->check(CLI::PositiveNumber);
  app.add_option("--threads", threads, "Number of threads; 0: LibTorch's default")->check(CLI::NonNegativeNumber);
  app.add_option("--json", json, "File for the medians");
  app.add_flag("--memory", memory,
               "Measure peaks of memory in place of times, for the library and for LibTorch's attention");
  app.add_flag("--list", list, "Print the names of the default cases");
  app.add_option("--device", device, "cuda: make a report on the GPU, against the backends of LibTorch's attention")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  const auto* scaling =
      app.add_option("--scale", scale, "Factor of the report's data; with --device cpu, too, makes a report")
          ->check(CLI::Range(1e-6, 1.0));
  app.add_option("--seconds", seconds, "Time for the whole report; cases for which none is left are not run")
      ->check(CLI::PositiveNumber);
  app.add_option("--table", table, "File for the report's table");
  app.add_option("--backend", backends, "A backend that the report compares with, may be repeated; none: all of them")
      ->check(CLI::IsMember(known_backends))
      ->allow_extra_args(false);
  app.add_flag("--once", once, "Run each case of the report once by the library alone, for profilers");
  app.add_option(kMeasureMemoryOf, measured)->group("")->check(CLI::IsMember({"hopfield", "sdpa"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const bool reports = device != "cpu" || scaling->count() > 0;
  for (const auto& [option, given] :
       {std::pair{"--table", !table.empty()}, {"--backend", !backends.empty()}, {"--once", once}}) {
    if (given && !reports)
      return refuse(fmt::format("{}: expected --device cuda or --scale, which make the report, got neither", option));
  }
  if (reports && memory) return refuse("--memory: expected neither --device cuda nor --scale, whose report has memory");
  auto cases = names.empty() ? (reports ? default_device_cases() : default_cases()) : std::vector<Case>();
  for (const auto& name : names) {
    const auto parsed = parse_case(name);
    if (parsed.empty())
      return refuse(
          fmt::format("expected a case like self/8/512/512/8/64/3/train/float32, got '{}'; see --list", name));
    cases.insert(cases.end(), parsed.begin(), parsed.end());
  }
  if (list) {
    for (const auto& c : cases) fmt::print("{}\n", c.name());
    return 0;
  }
  if (threads > 0) at::set_num_threads(threads);
  if (reports) {
    const auto place = device == "cpu" ? at::Device(at::kCPU) : at::Device(at::kCUDA, 0);
    return run_report(cases, {place, seconds, scale, json, table, backends.empty() ? known_backends : backends}, once);
  }
  std::ofstream file;  // opened before the work begins, so that no time is lost if it cannot be written
  if (!json.empty()) {
    file.open(json);
    if (!file) return refuse(fmt::format("--json: expected a file that can be written, got '{}'", json));
  }
  if (!measured.empty()) {
    print_extra_memory(cases.front(), measured);
    return 0;
  }
  fmt::print("hopfield {}, {} threads\n", version(), at::get_num_threads());
  if (memory) {
    print_memory(cases);
    return 0;
  }
  for (const auto& c : cases) {
    add(c.name(), library_work(c));
    if (peer == "sdpa") add(c.name() + " sdpa", sdpa_work(c));
  }
  std::vector<std::string> words{"hopfield_bench", "--benchmark_enable_random_interleaving=true",
                                 "--benchmark_report_aggregates_only=true",
                                 fmt::format("--benchmark_repetitions={}", repetitions)};
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  auto count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  Medians reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  print_medians(cases, peer, reporter.milliseconds);
  if (file.is_open()) file << medians_as_json(cases, peer, reporter.milliseconds).dump(2) << std::endl;
  print_machine_rates();
  return 0;
}

}  // namespace
}  // namespace hopfield::bench

int main(int argc, char** argv) {
  try {
    return hopfield::bench::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "hopfield_bench: {}\n", error.what());
    return 1;
  }
}
