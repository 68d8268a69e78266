#pragma once

// What the tests of kernels/cuda need to run on a GPU, or compiled for the host without one.

#include <gtest/gtest.h>
#include <kernels/cuda/launch.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace hopfield::kernels::cuda {

#if defined(__CUDACC__)
inline void require_success(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}
#endif

/// Memory of the device, as large as asked for to the byte.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : size_(values.size()) {
    void* memory = nullptr;
#if defined(__CUDACC__)
    require_success(cudaMalloc(&memory, bytes()));
    memory_.reset(static_cast<T*>(memory));
    require_success(cudaMemcpy(memory_.get(), values.data(), bytes(), cudaMemcpyHostToDevice));
#else
    if (posix_memalign(&memory, 256, bytes()) != 0) throw std::bad_alloc();
    memory_.reset(static_cast<T*>(memory));
    if (size_ > 0) std::memcpy(memory, values.data(), bytes());
#endif
  }
  DeviceArray(size_t size, T value) : DeviceArray(std::vector<T>(size, value)) {}

  T* data() const { return memory_.get(); }

  /// Waits for the device.
  std::vector<T> download() const {
    std::vector<T> values(size_);
#if defined(__CUDACC__)
    require_success(cudaDeviceSynchronize());
    require_success(cudaMemcpy(values.data(), memory_.get(), bytes(), cudaMemcpyDeviceToHost));
#else
    if (size_ > 0) std::memcpy(values.data(), memory_.get(), bytes());
#endif
    return values;
  }

 private:
  struct Free {
    void operator()(T* memory) const {
#if defined(__CUDACC__)
      cudaFree(memory);
#else
      std::free(memory);
#endif
    }
  };

  size_t bytes() const { return size_ * sizeof(T); }

  size_t size_;
  std::unique_ptr<T[], Free> memory_;
};

/// Compute capability times ten: 90 for the host, which runs everything, 0 where there is no GPU.
inline int device_generation() {
#if defined(__CUDACC__)
  int major = 0, minor = 0, count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return 0;
  require_success(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  require_success(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  return 10 * major + minor;
#else
  return 90;
#endif
}

/// Tests of code that needs compute capability `least` / 10.
template <int least>
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const int generation = device_generation();
    if (generation == 0) GTEST_SKIP() << "there is no CUDA device";
    if (generation < least)
      GTEST_SKIP() << "needs compute capability " << least / 10 << ", the device has " << generation / 10;
  }
};
using Cuda = CudaTest<80>;
using CudaHopper = CudaTest<90>;

inline std::vector<float> random_floats(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (auto& value : values) value = normal(random);
  return values;
}

}  // namespace hopfield::kernels::cuda
