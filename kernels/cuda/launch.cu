#include <cuda_runtime.h>
#include <kernels/cuda/launch.h>

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

cudaError_t prepare(const void* kernel, const LaunchShape& shape) {
  if (shape.shared_bytes > kSharedBytesWithoutAsking) {
    const auto error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  if (shape.cluster > kPortableCluster) {
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  return cudaSuccess;
}

}  // namespace

DeviceLimits device_limits() {
  // Attributes are looked up, not asked of the device: no reason to remember them.
  int device = 0;
  cudaGetDevice(&device);
  const auto attribute = [device](cudaDeviceAttr name) {
    int value = 0;
    if (cudaDeviceGetAttribute(&value, name, device) != cudaSuccess) cudaGetLastError();
    return value;
  };
  return {static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)),
          static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor)),
          static_cast<size_t>(attribute(cudaDevAttrReservedSharedMemoryPerBlock)),
          attribute(cudaDevAttrComputeCapabilityMajor) >= 9 ? kMostCluster : 1,
          attribute(cudaDevAttrMultiProcessorCount),
          10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor)};
}

bool cluster_fits(const void* kernel, const LaunchShape& shape) {
  Configuration configuration(shape, nullptr);
  int clusters = 0;
  auto error = prepare(kernel, shape);
  if (error == cudaSuccess) error = cudaOccupancyMaxActiveClusters(&clusters, kernel, &configuration.config);
  if (error != cudaSuccess) cudaGetLastError();
  return error == cudaSuccess && clusters > 0;
}

std::string launch_with(const void* kernel, const LaunchShape& shape, Stream stream, void** arguments) {
  const Configuration configuration(shape, stream);
  auto error = prepare(kernel, shape);
  if (error == cudaSuccess) error = cudaLaunchKernelExC(&configuration.config, kernel, arguments);
  if (error == cudaSuccess) return {};
  cudaGetLastError();  // it would be reported again by the next call
  return std::string("a kernel could not be started: ") + cudaGetErrorString(error) + " (grid " +
         std::to_string(shape.grid[0]) + " x " + std::to_string(shape.grid[1]) + " x " + std::to_string(shape.grid[2]) +
         ", block " + std::to_string(shape.block) + ", " + std::to_string(shape.shared_bytes) +
         " bytes of shared memory, cluster " + std::to_string(shape.cluster) + ")";
}

}  // namespace hopfield::kernels::cuda
