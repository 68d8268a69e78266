#include "cuda_runtime.h"

#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace hopfield::cuda_runtime_stand_in {
namespace {

constexpr int kSharedBytesWithoutAsking = 48 << 10;
constexpr unsigned kPortableCluster = 8, kMostCluster = 16;

struct Kernel {
  int static_shared_bytes;
  std::function<void(const Launch&)> run;
};

/// What a device has been told of a kernel.
struct Attributes {
  int dynamic_shared_bytes;
  int any_cluster = 0;
};

struct Runtime {
  std::mutex mutex;
  std::vector<Device> devices;
  std::map<const void*, Kernel> kernels;
  std::map<std::pair<int, const void*>, Attributes> attributes;
  std::map<std::string, int> calls;
  std::map<std::string, cudaError_t> failures;
};

Runtime& runtime() {
  static Runtime all;
  return all;
}

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t done(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

/// One call of a function of the runtime, alone with all that it knows.
class Call {
 public:
  explicit Call(const char* function) : all(runtime()), lock_(all.mutex) {
    ++all.calls[function];
    const auto planned = all.failures.find(function);
    if (planned == all.failures.end()) return;
    failure = planned->second;
    all.failures.erase(planned);
  }

  bool has_device(int device) const { return device >= 0 && static_cast<size_t>(device) < all.devices.size(); }
  const Device& device(int number) const { return all.devices[static_cast<size_t>(number)]; }
  bool has_kernel(const void* kernel) const { return all.kernels.count(kernel) > 0 && has_device(current_device); }
  const Kernel& kernel(const void* kernel) const { return all.kernels.at(kernel); }
  Attributes& attributes(const void* of) {
    const Attributes first{kSharedBytesWithoutAsking - kernel(of).static_shared_bytes};
    return all.attributes.emplace(std::pair(current_device, of), first).first->second;
  }

  /// Whether the current device can run a kernel with this shape.
  cudaError_t check(const void* of, const cudaLaunchConfig_t& config) {
    if (failure != cudaSuccess) return failure;
    if (!has_kernel(of)) return cudaErrorInvalidDeviceFunction;
    const auto& grid = config.gridDim;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 || config.blockDim.x == 0 ||
        config.blockDim.x > 1024) {
      return cudaErrorInvalidConfiguration;
    }
    const auto& allowed = attributes(of);
    if (config.dynamicSmemBytes > static_cast<size_t>(allowed.dynamic_shared_bytes)) return cudaErrorInvalidValue;
    for (unsigned i = 0; i < config.numAttrs; ++i) {
      if (config.attrs[i].id != cudaLaunchAttributeClusterDimension) continue;
      const auto cluster = config.attrs[i].val.clusterDim.x;
      if (cluster == 0 || grid.x % cluster != 0) return cudaErrorInvalidConfiguration;
      if (cluster > (allowed.any_cluster != 0 ? kMostCluster : kPortableCluster)) return cudaErrorInvalidClusterSize;
    }
    return cudaSuccess;
  }

  Runtime& all;
  cudaError_t failure = cudaSuccess;

 private:
  const std::lock_guard<std::mutex> lock_;
};

}  // namespace

int add_device(const Device& device) {
  const Call call("add_device");
  call.all.devices.push_back(device);
  return static_cast<int>(call.all.devices.size()) - 1;
}

void add_kernel(const void* kernel, int static_shared_bytes, std::function<void(const Launch&)> run) {
  const Call call("add_kernel");
  call.all.kernels[kernel] = {static_shared_bytes, std::move(run)};
}

int function_attribute(const void* kernel, cudaFuncAttribute attribute) {
  Call call("function_attribute");
  const auto& attributes = call.attributes(kernel);
  return attribute == cudaFuncAttributeMaxDynamicSharedMemorySize ? attributes.dynamic_shared_bytes
                                                                  : attributes.any_cluster;
}

int calls_of(const char* function) {
  const Call call("calls_of");
  return call.all.calls[function];
}

void fail_next(const char* function, cudaError_t error) {
  const Call call("fail_next");
  call.all.failures[function] = error;
}

}  // namespace hopfield::cuda_runtime_stand_in

using namespace hopfield::cuda_runtime_stand_in;

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDeviceFunction:
      return "invalid device function";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidClusterSize:
      return "cluster misconfiguration";
  }
  return "unrecognized error code";
}

cudaError_t cudaGetDevice(int* device) {
  const Call call("cudaGetDevice");
  if (call.failure != cudaSuccess) return done(call.failure);
  if (call.all.devices.empty()) return done(cudaErrorNoDevice);
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  const Call call("cudaSetDevice");
  if (!call.has_device(device)) return done(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const Call call("cudaDeviceGetAttribute");
  if (call.failure != cudaSuccess) return done(call.failure);
  if (!call.has_device(device)) return done(cudaErrorInvalidDevice);
  const auto& of = call.device(device);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = of.multiprocessors;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = of.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = of.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = of.multiprocessor_shared_bytes;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = of.optin_shared_bytes;
      return cudaSuccess;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = of.reserved_shared_bytes;
      return cudaSuccess;
  }
  return done(cudaErrorInvalidValue);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  const Call call("cudaFuncGetAttributes");
  if (call.failure != cudaSuccess) return done(call.failure);
  if (!call.has_kernel(kernel)) return done(cudaErrorInvalidDeviceFunction);
  attributes->sharedSizeBytes = static_cast<size_t>(call.kernel(kernel).static_shared_bytes);
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  Call call("cudaFuncSetAttribute");
  if (call.failure != cudaSuccess) return done(call.failure);
  if (!call.has_kernel(kernel)) return done(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) {
    call.attributes(kernel).any_cluster = value;
    return cudaSuccess;
  }
  const int most = call.device(current_device).optin_shared_bytes - call.kernel(kernel).static_shared_bytes;
  if (value < 0 || value > most) return done(cudaErrorInvalidValue);
  call.attributes(kernel).dynamic_shared_bytes = value;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* kernel, const cudaLaunchConfig_t* config) {
  Call call("cudaOccupancyMaxActiveClusters");
  const auto error = call.check(kernel, *config);
  if (error == cudaSuccess) *clusters = call.device(current_device).clusters;
  return done(error);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** arguments) {
  std::this_thread::yield();  // other threads may come between a thread's preparation and its launch
  std::function<void(const Launch&)> run;
  {
    Call call("cudaLaunchKernelExC");
    const auto error = call.check(kernel, *config);
    if (error != cudaSuccess) return done(error);
    run = call.kernel(kernel).run;
  }
  if (run) run({current_device, *config, arguments});
  return cudaSuccess;
}
