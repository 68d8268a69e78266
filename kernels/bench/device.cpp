#include "kernels/bench/device.h"

#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <c10/core/Event.h>

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <vector>

namespace hopfield::bench {
namespace {

/// Calls a function of the CUDA driver, if there is a driver. It is looked up at run time, so that the build does not
/// need CUDA's headers. False if there is no such function or if it fails.
template <typename... Arguments>
bool call_driver(const char* name, Arguments... arguments) {
  static auto* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) return false;
  auto* const function = reinterpret_cast<int (*)(Arguments...)>(dlsym(driver, name));
  return function != nullptr && function(arguments...) == 0;
}

std::string driver_version() {
  std::string version;
  std::getline(std::ifstream("/sys/module/nvidia/version"), version);
  int cuda = 0;
  if (call_driver("cuDriverGetVersion", &cuda)) {
    version += fmt::format("{}CUDA {}.{}", version.empty() ? "" : ", ", cuda / 1000, cuda % 1000 / 10);
  }
  return version;
}

/// Keeps the device busy for about 20 milliseconds with few launches.
class Filler {
 public:
  explicit Filler(at::Device device)
      : factor_(at::zeros({4096, 4096}, at::device(device).dtype(at::kHalf))), product_(at::zeros_like(factor_)) {
    const auto once = [&] { at::mm_out(product_, factor_, factor_); };
    once();
    launches_ = std::clamp<int64_t>(static_cast<int64_t>(0.02 / seconds_per_call(device, once, 10)), 1, 200);
  }
  void enqueue() {
    for (int64_t i = 0; i < launches_; ++i) at::mm_out(product_, factor_, factor_);
  }

 private:
  at::Tensor factor_, product_;
  int64_t launches_;
};

}  // namespace

std::optional<std::string> why_not_on(at::Device device) {
  if (device.is_cpu()) return std::nullopt;
  if (!at::Context::hasCUDART()) {
    return "expected a build with CUDA, but the LibTorch of this one has none that can be loaded; "
           "configure with the preset cuda and -DHOPFIELD_BENCH=ON";
  }
  if (!at::hasCUDA()) return "expected a GPU, but LibTorch finds none; see what nvidia-smi says";
  const auto floats = at::device(device).dtype(at::kFloat);
  PoolInput little;
  little.instances = at::ones({1, 16, 64}, floats);
  little.state = at::ones({1, 1, 1, 32}, floats);
  little.weight = at::ones({1, 32, 64}, floats);
  if (const auto reason = why_not_fused(little)) {
    return fmt::format(
        "expected a build with kernels for the GPU ({}); configure with the preset cuda and -DHOPFIELD_BENCH=ON",
        *reason);
  }
  return std::nullopt;
}

DeviceDescription describe_device(at::Device device) {
  constexpr int64_t kGuess = int64_t{64} << 20;
  DeviceDescription words{fmt::format("CPU, {} threads", at::get_num_threads()), "", "", kGuess};
  if (device.is_cpu()) return words;
  const long runtime = at::Context::versionCUDART();
  words.runtime = fmt::format("CUDA {}.{}", runtime / 1000, runtime % 1000 / 10);
  words.driver = driver_version();
  words.name = "GPU";
  // Like LibTorch, the driver numbers the devices that CUDA_VISIBLE_DEVICES names.
  int handle = 0, cache = 0;
  std::array<char, 256> name{};
  if (!call_driver("cuDeviceGet", &handle, static_cast<int>(at::accelerator::getDeviceIndex()))) return words;
  if (call_driver("cuDeviceGetName", name.data(), static_cast<int>(name.size()), handle)) words.name = name.data();
  constexpr int kL2CacheSize = 38;  // CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE
  if (call_driver("cuDeviceGetAttribute", &cache, kL2CacheSize, handle)) words.cache_bytes = cache;
  return words;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void synchronize(at::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(at::accelerator::getDeviceIndex());
}

double seconds_per_call(at::Device device, const std::function<void()>& run, int64_t calls) {
  synchronize(device);
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < calls; ++i) run();
  synchronize(device);
  return seconds_since(begin) / static_cast<double>(calls);
}

std::optional<double> device_seconds_per_call(at::Device device, const std::function<void()>& run, int64_t calls) {
  if (device.is_cpu()) return std::nullopt;
  static auto& filler = *new Filler(device);  // never destroyed: by then the device's own state may be gone
  const auto stream = at::accelerator::getCurrentStream(at::accelerator::getDeviceIndex());
  // The default flag of an event would switch off its timing.
  c10::Event begin(device.type(), c10::EventFlag::BACKEND_DEFAULT), end(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  synchronize(device);
  filler.enqueue();
  begin.record(stream);
  for (int64_t i = 0; i < calls; ++i) run();
  end.record(stream);
  const bool too_slow = begin.query();
  synchronize(device);
  if (too_slow) return std::nullopt;
  return begin.elapsedTime(end) / 1e3 / static_cast<double>(calls);
}

double copy_rate(at::Device device, int64_t bytes) {
  const auto from = at::zeros({bytes}, at::device(device).dtype(at::kByte));
  auto to = at::zeros_like(from);
  const auto copy = [&] { to.copy_(from); };
  copy();
  const auto calls = std::clamp<int64_t>(static_cast<int64_t>(0.01 / seconds_per_call(device, copy, 1)), 1, 20);
  std::vector<double> samples;
  for (int i = 0; i < 7; ++i) samples.push_back(seconds_per_call(device, copy, calls));
  std::nth_element(samples.begin(), samples.begin() + 3, samples.end());
  return 2 * static_cast<double>(bytes) / samples[3];
}

std::optional<int64_t> peak_bytes(at::Device device, const std::function<void()>& run) {
  if (device.is_cpu()) return std::nullopt;
  const auto index = at::accelerator::getDeviceIndex();
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  synchronize(device);
  at::accelerator::resetPeakStats(index);
  const auto before = at::accelerator::getDeviceStats(index).allocated_bytes[kAll].current;
  run();
  synchronize(device);
  return at::accelerator::getDeviceStats(index).allocated_bytes[kAll].peak - before;
}

void release_memory(at::Device device) {
  if (!device.is_cpu()) at::accelerator::emptyCache();
}

}  // namespace hopfield::bench
