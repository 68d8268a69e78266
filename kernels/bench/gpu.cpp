#include "kernels/bench/gpu.h"

#include <hopfield/version.h>

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/Event.h>
#include <c10/util/Exception.h>
#include <torch/headeronly/version.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>

namespace hopfield::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kCopiesPerSample = 5, kWarmRuns = 3, kMostCallsPerSample = 50;
constexpr double kSampleMilliseconds = 20;  // events tell half a microsecond; starting them costs a few

/// Per call, on the GPU's clock. Calls follow each other as a caller would make them: where starting kernels takes
/// longer than running them, that is what is measured. L2 is not flushed between them.
double milliseconds_of(const std::function<void()>& call, int calls) {
  const auto stream = at::accelerator::getCurrentStream(at::accelerator::getDeviceIndex());
  c10::Event begin(stream.device_type(), c10::EventFlag::BACKEND_DEFAULT);
  c10::Event end(stream.device_type(), c10::EventFlag::BACKEND_DEFAULT);
  begin.record(stream);
  for (int i = 0; i < calls; ++i) call();
  end.record(stream);
  end.synchronize();
  return begin.elapsedTime(end) / calls;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

void wait() { at::accelerator::synchronizeDevice(at::accelerator::getDeviceIndex()); }

/// Bytes read and written in a second by a copy of 1 GiB, which no cache holds.
double copy_bandwidth(int repetitions) {
  const auto from = at::randn({1 << 28}, at::TensorOptions().device(at::kCUDA).dtype(at::kFloat));
  auto to = at::empty_like(from);
  const auto copy = [&] { to.copy_(from); };
  milliseconds_of(copy, kWarmRuns);
  std::vector<double> samples;
  for (int i = 0; i < repetitions; ++i) samples.push_back(milliseconds_of(copy, kCopiesPerSample));
  return 2 * static_cast<double>(from.nbytes()) / (median(samples) * 1e-3);
}

/// Keeps warnings, in which attention says why it refuses.
class Warnings : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override {
    const auto& text = warning.msg();
    // It goes through all backends, those that were not asked for, too.
    const bool of_others =
        text.find("disabled") != std::string::npos || text.find("not used because") != std::string::npos;
    if (!of_others && reasons.find(text) == std::string::npos) reasons += (reasons.empty() ? "" : " ") + text;
  }
  std::string reasons;
};

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.substr(0, 400);
}

/// Whoever does a case's work.
struct Contender {
  std::string name;
  std::function<Work()> set_up;
  Work work{};
  std::string refusal = {};  // why it does not
  at::Tensor output = {};
  int calls = 1;
  std::vector<double> samples = {};
  int64_t extra_bytes = 0;  // at the peak of a run, on top of weights and data
};

/// Peak of what the caching allocator handed out during one run; its own reserve is not counted.
int64_t extra_bytes(const Work& work) {
  const auto device = at::accelerator::getDeviceIndex();
  const auto bytes = [device] { return at::accelerator::getDeviceStats(device).allocated_bytes[0]; };
  work.drop_gradients();
  at::accelerator::resetPeakStats(device);
  const auto before = bytes().current;
  work.run();
  return bytes().peak - before;
}

void warm_up(Contender& c) {
  c.work = c.set_up();
  c.output = c.work.run();
  wait();
  const auto once = milliseconds_of(c.work.run, kWarmRuns);
  c.calls = static_cast<int>(std::clamp(std::ceil(kSampleMilliseconds / once), 1.0, double{kMostCallsPerSample}));
  c.extra_bytes = extra_bytes(c.work);
}

/// Does `step`, or notes why it could not be done.
void attempt(Contender& c, const std::function<void(Contender&)>& step) {
  if (!c.refusal.empty()) return;
  Warnings warnings;
  const c10::WarningUtils::WarningHandlerGuard guard(&warnings);
  try {
    step(c);
  } catch (const c10::Error& error) {
    c.refusal = one_line(warnings.reasons.empty() ? error.what_without_backtrace() : warnings.reasons);
  } catch (const std::exception& error) {
    c.refusal = one_line(error.what());
  }
  if (!c.refusal.empty()) c.work = {};  // others may need its memory
}

/// All are warm before the first is timed, and take turns.
void measure(std::vector<Contender>& contenders, int repetitions) {
  for (auto& c : contenders) attempt(c, warm_up);
  for (int i = 0; i < repetitions; ++i) {
    for (auto& c : contenders) {
      attempt(c, [](Contender& one) { one.samples.push_back(milliseconds_of(one.work.run, one.calls)); });
    }
  }
}

constexpr std::pair<const char*, at::SDPBackend> kBackends[] = {
    {"flash", at::SDPBackend::flash_attention},
    {"memory-efficient", at::SDPBackend::efficient_attention},
    {"math", at::SDPBackend::math},
    {"cudnn", at::SDPBackend::cudnn_attention}};

/// The library first.
std::vector<Contender> contenders_of(const Case& which, bool peer) {
  std::vector<Contender> contenders{{"hopfield", [which] { return library_work(which); }}};
  if (peer) {
    for (const auto& [name, backend] : kBackends) {
      contenders.push_back({name, [which, one = backend] { return sdpa_work(which, one); }});
    }
  }
  return contenders;
}

/// Relative to `reference`, in the Euclidean norm: tells a peer that does other work. A pool's output may be flat.
double difference(const at::Tensor& found, const at::Tensor& reference) {
  const auto expected = reference.to(at::kFloat).flatten();
  return ((found.to(at::kFloat).flatten() - expected).norm() / expected.norm()).item<double>();
}

Json result_of(const Contender& c, const Contender& library) {
  if (!c.refusal.empty()) return {{"refused", c.refusal}};
  Json json{{"milliseconds", median(c.samples)},
            {"fastest_milliseconds", *std::min_element(c.samples.begin(), c.samples.end())},
            {"slowest_milliseconds", *std::max_element(c.samples.begin(), c.samples.end())},
            {"calls_per_sample", c.calls},
            {"extra_bytes", c.extra_bytes}};
  if (&c != &library && library.output.defined()) json["difference"] = difference(c.output, library.output);
  return json;
}

/// A case's results; null where the library refused: there is no work to speak of then.
Json results_of(const std::vector<Contender>& contenders, double bandwidth) {
  const auto& library = contenders.front();
  Json json;
  for (const auto& c : contenders) json[c.name] = result_of(c, library);
  if (!library.refusal.empty()) return json;
  json["input_bytes"] = library.work.input_bytes;
  if (library.work.moved_bytes > 0) {
    const auto rate = static_cast<double>(library.work.moved_bytes) / (median(library.samples) * 1e-3);
    json["moved_bytes"] = library.work.moved_bytes;
    json["bytes_per_second"] = rate;
    json["share_of_copy_bandwidth"] = rate / bandwidth;
  }
  return json;
}

void print_head(bool peer) {
  std::string head = "| case | hopfield, ms | GB/s | of copy | extra MB |", line = "|---|---|---|---|---|";
  if (peer) {
    for (const auto& [name, backend] : kBackends) head += fmt::format(" {}, ms |", name), line += "---|";
    head += " ratio to the fastest | its extra MB |", line += "---|---|";
  }
  fmt::print("{}\n{}\n", head, line);
}

/// A number, or a dash where there is none.
std::string cell(const Json& json, const std::string& key, const char* format, double unit) {
  return json.contains(key) ? fmt::format(fmt::runtime(format), json[key].get<double>() / unit) : "-";
}

void print_row(const std::string& name, const Json& json, bool peer) {
  const auto& ours = json["hopfield"];
  fmt::print("| {} | {} | {} | {} | {} |", name, cell(ours, "milliseconds", "{:.3f}", 1),
             cell(json, "bytes_per_second", "{:.0f}", 1e9), cell(json, "share_of_copy_bandwidth", "{:.0f} %", 0.01),
             cell(ours, "extra_bytes", "{:.1f}", 1e6));
  if (peer) {
    Json fastest;
    for (const auto& [backend, unused] : kBackends) {
      const auto& theirs = json[backend];
      fmt::print(" {} |", cell(theirs, "milliseconds", "{:.3f}", 1));
      if (!theirs.contains("milliseconds")) continue;
      if (fastest.is_null() || theirs["milliseconds"] < fastest["milliseconds"]) fastest = theirs;
    }
    Json ratio;
    if (!fastest.is_null() && ours.contains("milliseconds")) {
      ratio["ratio"] = fastest["milliseconds"].get<double>() / ours["milliseconds"].get<double>();
    }
    fmt::print(" {} | {} |", cell(ratio, "ratio", "{:.2f}", 1), cell(fastest, "extra_bytes", "{:.1f}", 1e6));
  }
  fmt::print("\n");
  std::fflush(stdout);  // before the sentences below, and in case that the run is cut short
}

/// What the row cannot say.
void print_remarks(const std::string& name, const Json& json) {
  constexpr double kSuspicious = 0.05;  // bfloat16 states, rounded at each step, are off by a hundredth
  for (const auto& [contender, result] : json.items()) {
    if (!result.is_object()) continue;
    if (result.contains("refused")) {
      fmt::print(stderr, "{}: {} refused: {}\n", name, contender, result["refused"].get<std::string>());
    } else if (result.contains("difference") && !(result["difference"].get<double>() < kSuspicious)) {
      fmt::print(stderr, "{}: the outputs of hopfield and {} differ by {:.2g} of their norm\n", name, contender,
                 result["difference"].get<double>());
    }
  }
}

void write(const std::string& file, const Json& json) {
  if (file.empty()) return;
  std::ofstream stream(file);
  stream << json.dump(2) << std::endl;
  if (!stream) throw std::runtime_error("--json: expected a file that can be written, got '" + file + "'");
}

}  // namespace

bool run_on_gpu(std::vector<Case> cases, const GpuRun& how) {
  if (!at::hasCUDA()) {
    throw std::runtime_error("--device cuda: expected a GPU that LibTorch can use, found none");
  }
  const auto bandwidth = copy_bandwidth(how.repetitions);
  Json json{{"version", version()},           {"libtorch", TORCH_VERSION}, {"device", "cuda"},
            {"repetitions", how.repetitions}, {"l2_flushed", false},       {"copy_bytes_per_second", bandwidth}};
  write(how.json, json);
  fmt::print(
      "hopfield {}, LibTorch {}, on the GPU. Medians of {}, L2 not flushed. A copy of 1 GiB moves {:.0f} GB/s, read "
      "and written.\n\n",
      version(), TORCH_VERSION, how.repetitions, bandwidth / 1e9);
  print_head(how.peer);
  bool complete = true;
  for (auto& which : cases) {
    which.device = at::kCUDA;
    Json results;
    {
      auto contenders = contenders_of(which, how.peer);
      measure(contenders, how.repetitions);
      results = results_of(contenders, bandwidth);
      complete = complete && contenders.front().refusal.empty();
    }
    at::accelerator::emptyCache();  // sizes differ from case to case
    print_row(which.name(), results, how.peer);
    print_remarks(which.name(), results);
    json["cases"][which.name()] = std::move(results);
    write(how.json, json);
  }
  return complete;
}

}  // namespace hopfield::bench
