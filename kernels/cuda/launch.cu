#include <cuda_runtime.h>
#include <kernels/cuda/launch.h>
#include <kernels/cuda/remembered.h>

#include <tuple>

namespace hopfield::kernels::cuda {
namespace {

constexpr size_t kSharedBytesWithoutAsking = 48 * 1024;
constexpr int64_t kPortableCluster = 8, kMostCluster = 16;

/// A shape as the runtime wants it.
struct Configuration {
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config = {};

  Configuration(const LaunchShape& shape, Stream stream) {
    config.gridDim = dim3(static_cast<unsigned>(shape.grid[0]), static_cast<unsigned>(shape.grid[1]),
                          static_cast<unsigned>(shape.grid[2]));
    config.blockDim = dim3(static_cast<unsigned>(shape.block));
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream);
    config.attrs = attributes;
    if (shape.cluster > 1) {
      auto& attribute = attributes[config.numAttrs++];
      attribute.id = cudaLaunchAttributeClusterDimension;
      attribute.val.clusterDim.x = static_cast<unsigned>(shape.cluster);
      attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    }
    if (shape.overlap) {
      auto& attribute = attributes[config.numAttrs++];
      attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      attribute.val.programmaticStreamSerializationAllowed = 1;
    }
  }
  Configuration(const Configuration&) = delete;
  Configuration& operator=(const Configuration&) = delete;
};

/// Allows a kernel all the dynamic shared memory that a block of the current device can have beside its static memory.
cudaError_t allow_all_shared_memory(const void* kernel, int device) {
  int most = 0;
  cudaFuncAttributes attributes = {};
  auto error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              most - static_cast<int>(attributes.sharedSizeBytes));
}

/// Allows a kernel what it gets only if it is asked for, once on each device. It is as much as there can be, and not
/// what this launch needs: another thread may be about to launch the kernel with more.
cudaError_t prepare(const void* kernel, int device, const LaunchShape& shape) {
  static auto& allowed = *new Remembered<std::tuple<int, const void*, cudaFuncAttribute>, cudaError_t>;
  const auto once = [&](cudaFuncAttribute attribute, const auto& allow) {
    return allowed.get({device, kernel, attribute}, [&] {
      const cudaError_t error = allow();
      return Answer<cudaError_t>{error, error == cudaSuccess};
    });
  };
  auto error = cudaSuccess;
  if (shape.shared_bytes > kSharedBytesWithoutAsking) {
    error = once(cudaFuncAttributeMaxDynamicSharedMemorySize, [&] { return allow_all_shared_memory(kernel, device); });
  }
  if (error == cudaSuccess && shape.cluster > kPortableCluster) {
    error = once(cudaFuncAttributeNonPortableClusterSizeAllowed,
                 [&] { return cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1); });
  }
  return error;
}

Answer<DeviceLimits> ask_limits(int device) {
  bool complete = true;
  const auto attribute = [&](cudaDeviceAttr name) {
    int value = 0;
    if (cudaDeviceGetAttribute(&value, name, device) == cudaSuccess) return value;
    cudaGetLastError();
    complete = false;
    return 0;
  };
  const DeviceLimits limits{
      static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)),
      static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor)),
      static_cast<size_t>(attribute(cudaDevAttrReservedSharedMemoryPerBlock)),
      attribute(cudaDevAttrComputeCapabilityMajor) >= 9 ? kMostCluster : 1,
      attribute(cudaDevAttrMultiProcessorCount),
      10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor)};
  return {limits, complete};
}

Answer<bool> ask_whether_cluster_fits(const void* kernel, int device, const LaunchShape& shape) {
  const Configuration configuration(shape, nullptr);
  int clusters = 0;
  auto error = prepare(kernel, device, shape);
  if (error == cudaSuccess) error = cudaOccupancyMaxActiveClusters(&clusters, kernel, &configuration.config);
  if (error != cudaSuccess) cudaGetLastError();
  return {error == cudaSuccess && clusters > 0, error == cudaSuccess};
}

}  // namespace

DeviceLimits device_limits() {
  static auto& known = *new Remembered<int, DeviceLimits>;
  int device = -1;
  if (cudaGetDevice(&device) != cudaSuccess) cudaGetLastError();
  return known.get(device, [&] { return ask_limits(device); });
}

bool cluster_fits(const void* kernel, const LaunchShape& shape) {
  using Key = std::tuple<int, const void*, int64_t, size_t, int64_t>;
  static auto& known = *new Remembered<Key, bool>;
  int device = -1;
  if (cudaGetDevice(&device) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return known.get({device, kernel, shape.block, shape.shared_bytes, shape.cluster},
                   [&] { return ask_whether_cluster_fits(kernel, device, shape); });
}

std::string launch_with(const void* kernel, const LaunchShape& shape, Stream stream, void** arguments) {
  const Configuration configuration(shape, stream);
  int device = -1;
  auto error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = prepare(kernel, device, shape);
  if (error == cudaSuccess) error = cudaLaunchKernelExC(&configuration.config, kernel, arguments);
  if (error == cudaSuccess) return {};
  cudaGetLastError();  // it would be reported again by the next call
  return std::string("a kernel could not be started: ") + cudaGetErrorString(error) + " (grid " +
         std::to_string(shape.grid[0]) + " x " + std::to_string(shape.grid[1]) + " x " + std::to_string(shape.grid[2]) +
         ", block " + std::to_string(shape.block) + ", " + std::to_string(shape.shared_bytes) +
         " bytes of shared memory, cluster " + std::to_string(shape.cluster) + ")";
}

}  // namespace hopfield::kernels::cuda
