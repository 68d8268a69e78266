#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace hopfield::bench {

/// Why benchmarks cannot run on it, or nothing.
std::optional<std::string> why_not_on(at::Device device);

/// A device in words. Empty where it is not known.
struct DeviceDescription {
  std::string name, driver, runtime;
  int64_t cache_bytes;  ///< of the last level
};
DeviceDescription describe_device(at::Device device);

/// Waits for all work on the device.
void synchronize(at::Device device);

/// Wall clock for one call, of `calls` that are made one after the other.
double seconds_per_call(at::Device device, const std::function<void()>& run, int64_t calls);

/// The device's time for one call, without the host's: calls are queued while the device is busy with something else.
/// Nothing on the CPU, or where the queue ran dry before all calls were in it.
std::optional<double> device_seconds_per_call(at::Device device, const std::function<void()>& run, int64_t calls);

/// Bytes read and written in a second by copies of `bytes` within the device's memory.
double copy_rate(at::Device device, int64_t bytes);

/// The most that a call has allocated at a time, on top of what there was. Nothing on the CPU.
std::optional<int64_t> peak_bytes(at::Device device, const std::function<void()>& run);

/// Gives memory that is kept for later back to the device.
void release_memory(at::Device device);

}  // namespace hopfield::bench
