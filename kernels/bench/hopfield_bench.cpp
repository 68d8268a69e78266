// Times the layers and the op, side by side with LibTorch's attention if asked for.
//
//   build/bench/bin/hopfield_bench --peer sdpa
//   build/bench/bin/hopfield_bench pooling/1/100000/256/8/32/1/3/train/float32 --threads 2
//   build/bench/bin/hopfield_bench --memory pooling/1/100000/256/8/32/1/3
//   build/cuda/bin/hopfield_bench --device cuda --peer sdpa --json results.json
//
// The last lines are a table of medians in milliseconds with the ratio, and the machine's own rates of the same run. On
// a GPU (gpu.h) the table is Markdown and has rates and memory, too.

#include "kernels/bench/case.h"
#include "kernels/bench/gpu.h"
#include "kernels/bench/memory.h"
#include <hopfield/version.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <stdexcept>

namespace hopfield::bench {
namespace {

/// Collects medians besides printing to the console.
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

/// Seconds of the fastest of some calls.
double fastest(const std::function<void()>& work) {
  double best = 1e30;
  for (int i = 0; i < 8; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
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

struct Options {
  std::vector<std::string> names;
  std::string device = "cpu", type, peer, measured, json;
  bool list = false, memory = false;
  int repetitions = 5, threads = 0;

  bool on_gpu() const { return device == "cuda"; }
};

void declare(CLI::App& app, Options& options) {
  app.option_defaults()->always_capture_default();
  app.add_option("cases", options.names,
                 "Cases, for example self/8/512/512/8/64/3/train/float32; /train/float32 may be left out");
  app.add_option("--device", options.device, "Where")->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--type", options.type, "Of cases whose name has none (float32 by default), and of the default set")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  app.add_option("--peer", options.peer, "Time the same work by LibTorch's attention too")
      ->check(CLI::IsMember({"sdpa"}));
  app.add_option("--repetitions", options.repetitions, "Medians are of so many")->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads, "0: as LibTorch chooses")->check(CLI::NonNegativeNumber);
  app.add_option("--json", options.json, "File for the medians");
  app.add_flag(
      "--memory", options.memory,
      "Peaks of memory in place of times, for the library and for LibTorch's attention; on a GPU they come with "
      "the times");
  app.add_flag("--list", options.list, "Name the default cases");
  app.add_option(kMeasureMemoryOf, options.measured)->group("")->check(CLI::IsMember({"hopfield", "sdpa"}));
}

/// Those of the device's default set, in the type asked for.
std::vector<Case> default_set(const Options& options) {
  auto cases = options.on_gpu() ? default_gpu_cases() : default_cases();
  if (options.type.empty()) return cases;
  std::vector<Case> result;
  for (auto& c : cases) {
    c.dtype = *parse_type(options.type);
    const auto same = [&c](const Case& other) { return other.name() == c.name(); };
    if (std::none_of(result.begin(), result.end(), same)) result.push_back(c);
  }
  return result;
}

/// @throws std::invalid_argument if a name is none
std::vector<Case> wanted_cases(const Options& options) {
  if (options.names.empty()) return default_set(options);
  std::vector<Case> cases;
  for (const auto& name : options.names) {
    const auto parsed = parse_case(name, parse_type(options.type).value_or(at::kFloat));
    if (parsed.empty()) {
      throw std::invalid_argument(
          fmt::format("expected a case like self/8/512/512/8/64/3/train/float32, got '{}'; see --list", name));
    }
    cases.insert(cases.end(), parsed.begin(), parsed.end());
  }
  return cases;
}

void run_on_cpu(const std::vector<Case>& cases, const Options& options) {
  for (const auto& c : cases) {
    add(c.name(), library_work(c));
    if (options.peer == "sdpa") add(c.name() + " sdpa", sdpa_work(c));
  }
  std::vector<std::string> words{"hopfield_bench", "--benchmark_enable_random_interleaving=true",
                                 "--benchmark_report_aggregates_only=true",
                                 fmt::format("--benchmark_repetitions={}", options.repetitions)};
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  auto count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  Medians reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  print_medians(cases, options.peer, reporter.milliseconds);
  if (!options.json.empty()) {
    std::ofstream(options.json) << medians_as_json(cases, options.peer, reporter.milliseconds).dump(2) << std::endl;
  }
  print_machine_rates();
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app{"Times the layers and the op; without names, a default set of cases."};
  declare(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const auto cases = wanted_cases(options);
  if (options.list) {
    for (const auto& c : cases) fmt::print("{}\n", c.name());
    return 0;
  }
  if (options.on_gpu() && (options.memory || !options.measured.empty())) {
    throw std::invalid_argument("--memory: expected --device cpu; on a GPU peaks of memory come with the times");
  }
  // Before all work: a result that cannot be written should not cost what leads to it.
  if (!options.json.empty() && !std::ofstream(options.json)) {
    throw std::invalid_argument(fmt::format("--json: expected a file that can be written, got '{}'", options.json));
  }
  if (options.threads > 0) at::set_num_threads(options.threads);
  if (!options.measured.empty()) {
    print_extra_memory(cases.front(), options.measured);
    return 0;
  }
  if (options.on_gpu()) return run_on_gpu(cases, {!options.peer.empty(), options.repetitions, options.json}) ? 0 : 1;
  fmt::print("hopfield {}, {} threads\n", version(), at::get_num_threads());
  if (options.memory) {
    print_memory(cases);
  } else {
    run_on_cpu(cases, options);
  }
  return 0;
}

}  // namespace
}  // namespace hopfield::bench

int main(int argc, char** argv) {
  try {
    return hopfield::bench::run(argc, argv);
  } catch (const std::invalid_argument& error) {
    fmt::print(stderr, "hopfield_bench: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "hopfield_bench: {}\n", error.what());
    return 1;
  }
}
