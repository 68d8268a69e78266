#pragma once

#include <c10/core/Device.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace hopfield::bench {

/// Why benchmarks cannot run on a device. Nothing if they can.
std::optional<std::string> why_not_on(at::Device device);

/// A device in words. Texts are empty if they are not known.
struct DeviceDescription {
  std::string name, driver, runtime;
  int64_t cache_bytes;  ///< size of the last cache level
};
DeviceDescription describe_device(at::Device device);

/// The seconds that have passed since `begin`.
double seconds_since(std::chrono::steady_clock::time_point begin);

/// Waits for all work on the device.
void synchronize(at::Device device);

/// The time of one call by the clock, averaged over `calls` successive calls.
double seconds_per_call(at::Device device, const std::function<void()>& run, int64_t calls);

/// The time that the device needs for one call, without the time of the host: all calls are queued while the device is
/// busy with something else. Nothing on the CPU, or if the device began before all calls were queued.
std::optional<double> device_seconds_per_call(at::Device device, const std::function<void()>& run, int64_t calls);

/// The bytes that copying `bytes` within the device's memory reads and writes in a second.
double copy_rate(at::Device device, int64_t bytes);

/// The peak of device memory during a call, beyond what was allocated before it. Nothing on the CPU.
std::optional<int64_t> peak_bytes(at::Device device, const std::function<void()>& run);

/// Returns memory that LibTorch's allocator caches to the device.
void release_memory(at::Device device);

}  // namespace hopfield::bench
