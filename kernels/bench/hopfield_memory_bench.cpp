// Times ContinuousMemory on many patterns, beside what it cannot be faster than: LibTorch's product of the same inner
// size. The contenders run in turn, after a round that is not counted, each between two runs of as many products as
// it makes: the rate of a processor shared with others changes from second to second, and is higher in short bursts.
// Times and ratios are medians over the rounds.
//
//   build/bench/bin/hopfield_memory_bench
//   build/bench/bin/hopfield_memory_bench --patterns 100000 --width 128 --json memory.json
//   build/bench/bin/hopfield_memory_bench --patterns 100000 --separation
//
// Source of the figures: two updates and the read-out make six products of 2 Q N d floating-point operations each, and
// best_matches() makes one.

#include <hopfield/io/safetensors.h>
#include <hopfield/memory/continuous.h>
#include <hopfield/theory/separation.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

namespace {

using hopfield::memory::ContinuousMemory;
using hopfield::memory::ContinuousOptions;
using hopfield::memory::RecallOptions;

struct Contender {
  std::string name;
  int products;  // of 2 Q N d operations
  std::function<void()> run;
  std::vector<double> seconds{}, shares{};
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double seconds_of(const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Queries times the transposed patterns, a tile at a time, so that the product does not wait for memory.
void multiply_columns(const at::Tensor& queries, const at::Tensor& patterns) {
  constexpr int64_t kTile = 8192;
  auto target = at::empty({queries.size(0), kTile}, queries.options());
  for (int64_t first = 0; first < patterns.size(0); first += kTile) {
    const auto count = std::min(kTile, patterns.size(0) - first);
    auto tile = target.narrow(1, 0, count);
    at::mm_out(tile, queries, patterns.narrow(0, first, count).t());
  }
}

/// The same for any number of queries.
void multiply_tiles(const at::Tensor& queries, const at::Tensor& patterns) {
  constexpr int64_t kRows = 1000;
  for (int64_t first = 0; first < queries.size(0); first += kRows) {
    multiply_columns(queries.narrow(0, first, std::min(kRows, queries.size(0) - first)), patterns);
  }
}

int run(int argc, char** argv) {
  int64_t queries_count = 1000, patterns_count = 1000000, width = 64, repetitions = 3;
  std::string json, sets;
  bool separation = false;
  CLI::App app("Times ContinuousMemory against LibTorch's product of the same inner size.");
  app.add_option("--queries", queries_count, "Number of queries")->check(CLI::PositiveNumber);
  app.add_option("--patterns", patterns_count, "Number of stored patterns")->check(CLI::PositiveNumber);
  app.add_option("--width", width, "Features of a pattern")->check(CLI::PositiveNumber);
  app.add_option("--repetitions", repetitions, "Rounds that are counted")->check(CLI::PositiveNumber);
  app.add_option("--sets", sets, "Safetensors file with queries [Q, d] and patterns [N, d], in place of random ones");
  app.add_flag("--separation", separation, "Time the separation of all patterns from each other instead");
  app.add_option("--json", json, "File for the results");
  CLI11_PARSE(app, argc, argv);

  const at::NoGradGuard no_grad;
  at::Tensor patterns, queries;
  if (sets.empty()) {
    const auto generator = at::detail::createCPUGenerator(0);
    patterns = at::randn({patterns_count, width}, generator, at::TensorOptions());
    queries = at::randn({queries_count, width}, generator, at::TensorOptions());
  } else {
    const auto file = hopfield::io::load_safetensors(sets);
    patterns = file.tensors["patterns"], queries = file.tensors["queries"];
  }
  if (separation) queries = patterns;
  const ContinuousMemory memory(patterns, ContinuousOptions().beta(1.0));
  const auto two = RecallOptions().update_steps_max(2).update_steps_eps(0.0);
  std::vector<Contender> all{
      {"product", 1, [&] { multiply_tiles(queries, patterns); }},
      {"two updates and the read-out", 6, [&] { memory.retrieve(queries, RecallOptions(two).with_match(false)); }},
      {"the same, with the match", 7, [&] { memory.retrieve(queries, two); }},
      {"best_matches(k = 1)", 1, [&] { memory.best_matches(queries, 1); }},
      {"best_matches(k = 10)", 1, [&] { memory.best_matches(queries, 10); }},
      {"product, written out whole", 1, [&] { at::mm(queries, patterns.t()); }}};
  const auto operations = 2.0 * static_cast<double>(queries.size(0)) * static_cast<double>(patterns.size(0)) *
                          static_cast<double>(patterns.size(1));
  if (separation) {
    all.resize(1);
    all.push_back({"pattern_separation()", 1, [&] { hopfield::theory::pattern_separation(patterns); }});
  }
  for (int64_t round = 0; round <= repetitions; ++round) {
    for (auto& contender : all) {
      const auto products = [&] {
        for (int i = 0; i < contender.products; ++i) multiply_tiles(queries, patterns);
      };
      const auto before = seconds_of(products), seconds = seconds_of(contender.run), after = seconds_of(products);
      if (round == 0) continue;
      contender.seconds.push_back(seconds);
      contender.shares.push_back((before + after) / 2 / seconds);
    }
  }
  auto results = nlohmann::json::array();
  std::printf("%s queries x %s patterns x %s, float32, %d threads\n", std::to_string(queries.size(0)).c_str(),
              std::to_string(patterns.size(0)).c_str(), std::to_string(patterns.size(1)).c_str(),
              at::get_num_threads());
  for (const auto& contender : all) {
    const auto seconds = median(contender.seconds);
    const auto share = median(contender.shares);
    std::printf("%-30s %8.3f s  %6.1f Gflop/s  %5.1f %% of the product's rate\n", contender.name.c_str(), seconds,
                contender.products * operations / seconds * 1e-9, 100 * share);
    results.push_back({{"name", contender.name}, {"seconds", seconds}, {"share_of_product_rate", share}});
  }
  if (!json.empty()) std::ofstream(json) << results.dump(2) << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hopfield_memory_bench: %s\n", error.what());
    return 1;
  }
}
