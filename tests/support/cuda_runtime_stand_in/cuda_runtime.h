#pragma once

// Stands in for CUDA's runtime where kernels/cuda/launch.cu is compiled without nvcc: the types and functions that it
// uses, with the names, values and rules of CUDA, and devices and kernels that tests describe. All functions may be
// called by many threads.

#include <cstddef>
#include <functional>

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidClusterSize = 912
};

enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrReservedSharedMemoryPerBlock = 111
};

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributeNonPortableClusterSizeAllowed = 14
};

enum cudaLaunchAttributeID {
  cudaLaunchAttributeClusterDimension = 4,
  cudaLaunchAttributeProgrammaticStreamSerialization = 6
};

struct dim3 {
  dim3(unsigned of_x = 1, unsigned of_y = 1, unsigned of_z = 1) : x(of_x), y(of_y), z(of_z) {}
  unsigned x, y, z;
};

using cudaStream_t = struct CUstream_st*;

struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    struct {
      unsigned x, y, z;
    } clusterDim;
    int programmaticStreamSerializationAllowed;
  } val;  // of CUDA's union the members in use
};

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

struct cudaFuncAttributes {
  size_t sharedSizeBytes;  // static shared memory
};

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel);
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* kernel, const cudaLaunchConfig_t* config);
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** arguments);

namespace hopfield::cuda_runtime_stand_in {

/// By default an H100.
struct Device {
  int optin_shared_bytes = 227 << 10, multiprocessor_shared_bytes = 228 << 10, reserved_shared_bytes = 1 << 10;
  int multiprocessors = 132, major = 9, minor = 0;
  int clusters = 8;  ///< of any shape that run at a time
};

/// Adds a device, which is not known before, and returns its number.
int add_device(const Device& device = {});

/// A kernel as it arrives at its launch.
struct Launch {
  int device;
  cudaLaunchConfig_t config;
  void** arguments;
};

/// Makes a kernel known to all devices.
/// @param run  called at each launch, by the thread that launches
void add_kernel(const void* kernel, int static_shared_bytes = 0, std::function<void(const Launch&)> run = {});

/// The attribute that the current device has for a kernel.
int function_attribute(const void* kernel, cudaFuncAttribute attribute);

/// How often a function of the runtime was called so far.
int calls_of(const char* function);

/// The next call of a function fails, by whichever thread.
void fail_next(const char* function, cudaError_t error);

}  // namespace hopfield::cuda_runtime_stand_in
