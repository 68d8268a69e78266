#include "kernels/bench/report.h"

#include "kernels/bench/contest.h"
#include "kernels/bench/device.h"
#include <hopfield/version.h>

#include <ATen/Context.h>
#include <torch/version.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <fstream>
#include <limits>
#include <stdexcept>

namespace hopfield::bench {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::string today() {
  const auto now = std::time(nullptr);
  std::array<char, 16> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d", std::gmtime(&now));
  return text.data();
}

/// Collects LibTorch's warnings: while a backend of attention refuses a case, they say why.
class Reasons : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override {
    const auto& text = warning.msg();
    // Leaves out headings and the remarks that the other backends are switched off.
    for (const auto* noise : {"kernel not used because", "has been runtime disabled"}) {
      if (text.find(noise) != std::string::npos) return;
    }
    if (text_.find(text) == std::string::npos) text_ += " " + text.substr(0, text.find('\n'));
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// The measurements of one contender on one case.
struct Times {
  int64_t calls = 1;  ///< calls in each sample
  std::vector<double> seconds, device_seconds;
  std::optional<int64_t> peak_bytes;

  Json as_json() const {
    Json json{{"median_ms", 1e3 * median(seconds)},
              {"min_ms", 1e3 * *std::min_element(seconds.begin(), seconds.end())},
              {"n", seconds.size()},
              {"calls_of_each", calls}};
    if (!device_seconds.empty()) json["device_median_ms"] = 1e3 * median(device_seconds);
    if (peak_bytes) json["extra_memory_bytes"] = *peak_bytes;
    return json;
  }
};

/// Warms a contender up, decides how many calls make a sample, and measures its memory. Records a refusal.
Times warm_up(at::Device device, Contest& contest, Contender& contender) {
  constexpr double kSampleSeconds = 0.03;  // long compared with waiting for the device
  Times times;
  if (!contender.refusal.empty()) return times;
  Reasons reasons;
  const c10::WarningUtils::WarningHandlerGuard guard(&reasons);
  try {
    seconds_per_call(device, contender.run, contest.input_count());
    const auto seconds = seconds_per_call(device, contender.run, 2);
    times.calls = std::clamp<int64_t>(static_cast<int64_t>(kSampleSeconds / seconds), 1, 200);
    contest.drop_gradients();
    times.peak_bytes = peak_bytes(device, contender.run);
  } catch (const std::exception& error) {
    contender.refusal = "refused: " + first_line(error) + reasons.text();
  }
  contest.drop_gradients();
  release_memory(device);
  return times;
}

void take_sample(at::Device device, const Contender& contender, Times& times) {
  constexpr int64_t kQueued = 5;  // the launches of so many training steps fit into the queue of a stream
  times.seconds.push_back(seconds_per_call(device, contender.run, times.calls));
  const auto on_device = device_seconds_per_call(device, contender.run, std::min(times.calls, kQueued));
  if (on_device) times.device_seconds.push_back(*on_device);
}

/// Times the contenders of a case in turn until the time is over, and writes the results to `entry`.
void race(const Case& which, Contest& contest, Json& entry, double seconds, double& preparation) {
  constexpr int kLeastRounds = 3, kMostRounds = 21;
  const auto begin = Clock::now();
  std::vector<Times> times;
  for (auto& contender : contest.contenders) times.push_back(warm_up(which.device, contest, contender));
  preparation += seconds_since(begin);
  for (int round = 0; round < kMostRounds && (round < kLeastRounds || seconds_since(begin) < seconds); ++round) {
    for (size_t i = 0; i < times.size(); ++i) {
      const auto turn = (i + static_cast<size_t>(round)) % times.size();  // another contender begins in each round
      auto& contender = contest.contenders[turn];
      if (!contender.refusal.empty()) continue;
      try {
        take_sample(which.device, contender, times[turn]);
      } catch (const std::exception& error) {
        contender.refusal = "refused: " + first_line(error);
        contest.drop_gradients();
        release_memory(which.device);
      }
    }
  }
  for (size_t i = 0; i < times.size(); ++i) {
    const auto& [name, run, refusal] = contest.contenders[i];
    auto& place = i == 0 ? entry[name] : entry["peers"][name];
    place = refusal.empty() ? times[i].as_json() : Json{{"refusal", refusal}};
  }
}

/// The number that a JSON pointer leads to. Nothing if there is none.
std::optional<double> number(const Json& json, const std::string& pointer) {
  const Json::json_pointer place(pointer);
  if (!json.contains(place) || !json[place].is_number()) return std::nullopt;
  return json[place].get<double>();
}

/// Compares the library with the fastest peer and with the speed of copies, and computes its operations per second.
void conclude(Json& entry, double copy_rate) {
  const auto ours = number(entry, "/hopfield/median_ms");
  double fastest = std::numeric_limits<double>::infinity();
  for (const auto* peer : kPeers) {
    const auto theirs = number(entry, fmt::format("/peers/{}/median_ms", peer));
    if (!theirs || *theirs >= fastest) continue;
    fastest = *theirs;
    entry["fastest_peer"] = peer;
  }
  if (!ours) return;
  if (std::isfinite(fastest)) entry["ratio"] = fastest / *ours;
  const auto on_device = number(entry, "/hopfield/device_median_ms");
  if (const auto operations = number(entry, "/operations")) {
    entry["tflops"] = *operations / *ours / 1e9;
    if (on_device) entry["tflops_on_device"] = *operations / *on_device / 1e9;
  }
  const auto bytes = number(entry, "/bytes_moved");
  if (!bytes) return;
  entry["share_of_copy"] = *bytes / (*ours / 1e3) / copy_rate;
  if (on_device) entry["share_of_copy_on_device"] = *bytes / (*on_device / 1e3) / copy_rate;
}

void check_errors(const Case& which, Json& entry) {
  try {
    const auto errors = largest_errors(shortened(which));
    entry["error"] = errors.hopfield;
    entry["error_of_math"] = errors.math;
  } catch (const std::exception& error) {
    entry["error_refusal"] = first_line(error);
  }
  release_memory(which.device);
}

/// Measures a case in about `seconds`. `preparation` becomes the time that passed before the first sample.
Json measure(const Case& which, const std::vector<std::string>& peers, int64_t cache_bytes, double copy_rate,
             double seconds, double& preparation) {
  Json entry{{"name", which.name()}, {"status", "measured"}};
  const auto begin = Clock::now();
  at::globalContext().setFloat32MatmulPrecision(which.precision.empty() ? "highest" : which.precision);
  try {
    check_errors(which, entry);
    Contest contest(which, peers, cache_bytes);
    entry["form"] = contest.form();
    entry["inputs_in_turn"] = contest.input_count();
    entry["inputs_exceed_cache"] = contest.inputs_exceed_cache();
    if (contest.bytes_moved() > 0) entry["bytes_moved"] = contest.bytes_moved();
    if (which.operations() > 0) entry["operations"] = which.operations();
    const bool served = contest.contenders.front().refusal.empty();
    preparation = seconds_since(begin);
    race(which, contest, entry, seconds - preparation, preparation);
    conclude(entry, copy_rate);
    if (entry["hopfield"].contains("refusal")) entry["status"] = served ? "failed" : "refused";
  } catch (const std::exception& error) {
    entry["status"] = "failed";
    entry["hopfield"]["refusal"] = first_line(error);
  }
  release_memory(which.device);
  return entry;
}

/// Adds the ratio of the time with T updates to the time without, where both were measured.
void compare_with_no_steps(const std::vector<Case>& cases, Json& entries) {
  for (size_t i = 0; i < entries.size(); ++i) {
    auto plain = cases[i];
    plain.sizes.back() = 0;
    for (size_t j = 0; j < entries.size(); ++j) {
      if (i == j || cases[j].name() != plain.name()) continue;
      for (const auto* time : {"median_ms", "device_median_ms"}) {
        const auto steps = number(entries[i], fmt::format("/hopfield/{}", time));
        const auto none = number(entries[j], fmt::format("/hopfield/{}", time));
        if (steps && none) entries[i][fmt::format("{}_over_no_steps", time)] = *steps / *none;
      }
    }
  }
}

/// Adds the operations per second of the op's backward pass relative to those of its forward pass, where both training
/// and forward were measured.
void compare_backward(const std::vector<Case>& cases, Json& entries) {
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!cases[i].is_op() || !cases[i].train) continue;
    auto forward = cases[i];
    forward.train = false;
    for (size_t j = 0; j < entries.size(); ++j) {
      if (cases[j].name() != forward.name()) continue;
      const auto both = number(entries[i], "/hopfield/median_ms"), one = number(entries[j], "/hopfield/median_ms");
      if (!both || !one || *both <= *one) continue;
      const auto backward = cases[i].operations() - forward.operations();
      entries[i]["backward_over_forward_rate"] = backward / (*both - *one) / (forward.operations() / *one);
    }
  }
}

std::string cell(const std::optional<double>& value, const char* format, double factor = 1) {
  return value ? fmt::format(fmt::runtime(format), factor * *value) : "";
}

std::string table_row(const Json& entry) {
  auto row = fmt::format("| {} |", entry["name"].get<std::string>());
  const auto status = entry["status"].get<std::string>();
  row += fmt::format(" {} | {} |", status == "measured" ? cell(number(entry, "/hopfield/median_ms"), "{:.3g}") : status,
                     cell(number(entry, "/hopfield/device_median_ms"), "{:.3g}"));
  for (const auto* peer : kPeers) {
    row += fmt::format(" {} |", cell(number(entry, fmt::format("/peers/{}/median_ms", peer)), "{:.3g}"));
  }
  row += fmt::format(" {} | {} | {} | {} | {} | {} |", cell(number(entry, "/ratio"), "{:.2f}"),
                     cell(number(entry, "/tflops"), "{:.3g}"),
                     cell(number(entry, "/backward_over_forward_rate"), "{:.0f} %", 100),
                     cell(number(entry, "/share_of_copy"), "{:.0f} %", 100),
                     cell(number(entry, "/share_of_copy_on_device"), "{:.0f} %", 100),
                     cell(number(entry, "/median_ms_over_no_steps"), "{:.2f}"));
  const std::string best = entry.value("fastest_peer", "");
  return row + fmt::format(" {} | {} | {} | {} |\n",
                           cell(number(entry, "/hopfield/extra_memory_bytes"), "{:.4g}", 1e-6),
                           cell(number(entry, "/peers/" + best + "/extra_memory_bytes"), "{:.4g}", 1e-6),
                           cell(number(entry, "/error"), "{:.1e}"), cell(number(entry, "/error_of_math"), "{:.1e}"));
}

std::string table_of(const Json& json) {
  std::string text = json["device"];
  for (const auto* part : {"driver", "runtime", "torch"}) {
    const std::string version = json[part];
    if (!version.empty()) text += fmt::format(", {} {}", part, version);
  }
  text += fmt::format(
      ", {}; copies within its memory {:.0f} GB/s\n\n"
      "| case | hopfield, ms | on the device | flash | efficient | math | cudnn | ratio | TFLOP/s | backward "
      "| of copies | on the device | over T = 0 | extra MB | of the peer | error | of math |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
      json["date"].get<std::string>(), json["copy_bytes_per_second"].get<double>() / 1e9);
  for (const auto& entry : json["cases"]) text += table_row(entry);
  return text;
}

/// Prints the details of a case that are not in the table.
void print_remarks(const Json& entry) {
  fmt::print("\n{}: {}\n", entry["name"].get<std::string>(), entry["status"].get<std::string>());
  if (entry["status"] == "no time left") return;
  const std::string form = entry.value("form", "");
  if (!form.empty()) fmt::print("  {}\n", form);
  if (entry.contains("hopfield")) fmt::print("  hopfield: {}\n", entry["hopfield"].dump());
  for (const auto* peer : kPeers) {
    if (entry.contains("peers") && entry["peers"].contains(peer))
      fmt::print("  {}: {}\n", peer, entry["peers"][peer].dump());
  }
  fmt::print("  error {}, of LibTorch's attention by plain operations {}\n",
             entry.contains("error") ? entry["error"].dump() : entry.value("error_refusal", "unknown"),
             entry.contains("error_of_math") ? entry["error_of_math"].dump() : "unknown");
  if (entry.contains("inputs_in_turn")) {
    fmt::print("  {} inputs in turn{}\n", entry["inputs_in_turn"].dump(),
               entry["inputs_exceed_cache"].get<bool>() ? "" : ", which fit into the device's cache");
  }
  std::fflush(stdout);
}

void write(const std::string& option, const std::string& path, const std::string& text) {
  if (path.empty()) return;
  std::ofstream file(path);
  file << text << std::flush;
  if (!file) throw std::runtime_error(fmt::format("{}: expected a file that can be written, got '{}'", option, path));
}

void write_files(const ReportOptions& options, const Json& json) {
  write("--json", options.json, json.dump(2) + "\n");
  write("--table", options.table, table_of(json));
}

Json describe_run(const ReportOptions& options, const DeviceDescription& device) {
  constexpr double kCopied = 1 << 30, kLeastCopied = 1 << 24;
  const auto bytes = static_cast<int64_t>(std::max(kLeastCopied, kCopied * std::min(1.0, options.scale)));
  return Json{{"device", device.name},
              {"driver", device.driver},
              {"runtime", device.runtime},
              {"cache_bytes", device.cache_bytes},
              {"version", version()},
              {"torch", TORCH_VERSION},
              {"date", today()},
              {"scale", options.scale},
              {"copy_bytes_per_second", copy_rate(options.device, bytes)},
              {"cases", Json::array()}};
}

}  // namespace

int report(const std::vector<Case>& cases, const ReportOptions& options) {
  const auto begin = Clock::now();
  const auto device = describe_device(options.device);
  auto json = describe_run(options, device);
  write_files(options, json);  // before the work begins, so that no time is lost if they cannot be written
  const auto copy_rate = json["copy_bytes_per_second"].get<double>();
  double longest_preparation = 0;  // of all cases so far; a case is not begun if less time than that is left
  for (size_t i = 0; i < cases.size(); ++i) {
    const double left = options.seconds - seconds_since(begin);
    double preparation = 0;
    json["cases"].push_back(left > longest_preparation
                                ? measure(cases[i], options.peers, device.cache_bytes, copy_rate,
                                          left / static_cast<double>(cases.size() - i), preparation)
                                : Json{{"name", cases[i].name()}, {"status", "no time left"}});
    longest_preparation = std::max(longest_preparation, preparation);
    compare_with_no_steps(cases, json["cases"]);
    compare_backward(cases, json["cases"]);
    print_remarks(json["cases"].back());
    write_files(options, json);
  }
  release_memory(options.device);
  fmt::print("\n{}", table_of(json));
  return std::any_of(json["cases"].begin(), json["cases"].end(),
                     [](const Json& entry) { return entry["status"] == "failed"; });
}

}  // namespace hopfield::bench
