// How kernels are started, against a stand-in for CUDA's runtime.

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kernels/cuda/launch.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hopfield::kernels::cuda {
namespace {

using namespace cuda_runtime_stand_in;
using ::testing::HasSubstr;

constexpr auto kSharedMemory = cudaFuncAttributeMaxDynamicSharedMemorySize;
constexpr auto kAnyCluster = cudaFuncAttributeNonPortableClusterSizeAllowed;
constexpr size_t kOptin = 227 << 10, kMuch = 100 << 10, kMore = 200 << 10;

/// What is known of kernels and devices is never forgotten: each test has a device and kernels of its own.
template <int number>
void kernel(int, float) {}

template <int number>
const void* known_kernel(int static_shared_bytes = 0) {
  const auto* pointer = reinterpret_cast<const void*>(&kernel<number>);
  add_kernel(pointer, static_shared_bytes);
  return pointer;
}

LaunchShape shape_with(size_t shared_bytes, int64_t cluster = 1) { return {{32, 1, 1}, 128, shared_bytes, cluster}; }

std::string launch_plainly(const void* pointer, const LaunchShape& shape) {
  void* arguments[] = {nullptr};
  return launch_with(pointer, shape, nullptr, arguments);
}

class CudaLaunch : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = add_device();
    ASSERT_EQ(cudaSetDevice(device_), cudaSuccess);
  }
  void TearDown() override { EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "an error was left to the next call"; }

  /// How often `use` calls a function of the runtime.
  template <class Use>
  static int calls(const char* function, const Use& use) {
    const int before = calls_of(function);
    use();
    return calls_of(function) - before;
  }

  int device_ = 0;
};

TEST_F(CudaLaunch, AKernelArrivesWithItsShapeAndArguments) {
  std::vector<std::string> seen;
  const auto* pointer = reinterpret_cast<const void*>(&kernel<0>);
  int stream = 0;
  add_kernel(pointer, 0, [&](const Launch& launch) {
    const auto& config = launch.config;
    EXPECT_EQ(launch.device, device_);
    EXPECT_EQ(std::vector<unsigned>({config.gridDim.x, config.gridDim.y, config.gridDim.z}),
              std::vector<unsigned>({70'000, 3, 2}));
    EXPECT_EQ(std::vector<unsigned>({config.blockDim.x, config.blockDim.y, config.blockDim.z}),
              std::vector<unsigned>({96, 1, 1}));
    EXPECT_EQ(config.dynamicSmemBytes, 300u);
    EXPECT_EQ(static_cast<void*>(config.stream), static_cast<void*>(&stream));
    std::string attributes;
    for (unsigned i = 0; i < config.numAttrs; ++i) {
      const auto& [id, value] = config.attrs[i];
      if (id == cudaLaunchAttributeClusterDimension) {
        attributes += "cluster " + std::to_string(value.clusterDim.x) + ' ';
        EXPECT_EQ(value.clusterDim.y * value.clusterDim.z, 1u);
      } else {
        EXPECT_EQ(value.programmaticStreamSerializationAllowed, 1);
        attributes += "overlap ";
      }
    }
    const auto first = *static_cast<int*>(launch.arguments[0]);
    const auto second = *static_cast<float*>(launch.arguments[1]);
    seen.push_back(attributes + std::to_string(first) + ' ' + std::to_string(second));
  });
  LaunchShape shape{{70'000, 3, 2}, 96, 300};
  // Arguments are converted to the kernel's parameters.
  EXPECT_EQ(launch(kernel<0>, shape, &stream, int64_t{7}, 2), "");
  shape.cluster = 4;
  EXPECT_EQ(launch(kernel<0>, shape, &stream, 7, 0.5), "");
  shape.overlap = true;
  EXPECT_EQ(launch(kernel<0>, shape, &stream, 7, 0.5), "");
  shape.cluster = 1;
  EXPECT_EQ(launch(kernel<0>, shape, &stream, 7, 0.5), "");
  EXPECT_EQ(seen, std::vector<std::string>(
                      {"7 2.000000", "cluster 4 7 0.500000", "cluster 4 overlap 7 0.500000", "overlap 7 0.500000"}));
}

TEST_F(CudaLaunch, ThreadsLaunchOneKernelWithDifferentSizes) {
  const auto* pointer = known_kernel<1>();
  std::mutex mutex;
  std::vector<std::string> errors;
  const auto launch_often = [&](size_t shared_bytes) {
    ASSERT_EQ(cudaSetDevice(device_), cudaSuccess);
    for (int i = 0; i < 500; ++i) {
      const auto error = launch_plainly(pointer, shape_with(shared_bytes, i % 2 == 0 ? 1 : 16));
      if (error.empty()) continue;
      const std::lock_guard<std::mutex> lock(mutex);
      errors.push_back(error);
    }
  };
  std::vector<std::thread> threads;
  const int set = calls("cudaFuncSetAttribute", [&] {
    for (int i = 0; i < 8; ++i) threads.emplace_back(launch_often, i % 2 == 0 ? kMuch : kMore);
    for (auto& thread : threads) thread.join();
  });
  EXPECT_TRUE(errors.empty()) << errors.size() << " launches failed, the first one: " << errors[0];
  EXPECT_EQ(set, 2) << "each of two attributes is set once, by one of the threads";
}

TEST_F(CudaLaunch, SharedMemoryIsAskedForOnceForAKernel) {
  const auto *first = known_kernel<2>(), *second = known_kernel<3>(1000);
  for (const auto* pointer : {first, second}) {
    EXPECT_EQ(calls("cudaFuncSetAttribute",
                    [&] {
                      for (const auto bytes : {kMore, kMuch, kMore}) {
                        EXPECT_EQ(launch_plainly(pointer, shape_with(bytes)), "");
                      }
                    }),
              1);
  }
  EXPECT_EQ(function_attribute(first, kSharedMemory), static_cast<int>(kOptin));
  EXPECT_EQ(function_attribute(second, kSharedMemory), static_cast<int>(kOptin) - 1000);
  EXPECT_EQ(launch_plainly(second, shape_with(kOptin - 1000)), "");
  EXPECT_THAT(launch_plainly(second, shape_with(kOptin - 999)), HasSubstr("invalid argument"));
}

TEST_F(CudaLaunch, LittleSharedMemoryIsNotAskedFor) {
  const auto* pointer = known_kernel<4>();
  for (const auto* function : {"cudaFuncSetAttribute", "cudaFuncGetAttributes", "cudaDeviceGetAttribute"}) {
    EXPECT_EQ(calls(function, [&] { EXPECT_EQ(launch_plainly(pointer, shape_with(48 << 10)), ""); }), 0) << function;
  }
}

TEST_F(CudaLaunch, EachDeviceIsAsked) {
  const auto* pointer = known_kernel<5>();
  EXPECT_EQ(launch_plainly(pointer, shape_with(kMore, 16)), "");
  Device small;
  small.optin_shared_bytes = 160 << 10;
  const int second = add_device(small);
  ASSERT_EQ(cudaSetDevice(second), cudaSuccess);
  EXPECT_EQ(launch_plainly(pointer, shape_with(kMuch, 16)), "");
  EXPECT_EQ(function_attribute(pointer, kSharedMemory), 160 << 10);
  EXPECT_THAT(launch_plainly(pointer, shape_with(kMore)), HasSubstr("invalid argument"));
  ASSERT_EQ(cudaSetDevice(device_), cudaSuccess);
  EXPECT_EQ(calls("cudaFuncSetAttribute", [&] { EXPECT_EQ(launch_plainly(pointer, shape_with(kMore, 16)), ""); }), 0);
}

TEST_F(CudaLaunch, AnErrorIsNotRemembered) {
  const auto* pointer = known_kernel<6>();
  for (const auto* function : {"cudaGetDevice", "cudaDeviceGetAttribute", "cudaFuncGetAttributes",
                               "cudaFuncSetAttribute", "cudaLaunchKernelExC"}) {
    fail_next(function, cudaErrorMemoryAllocation);
    EXPECT_THAT(launch_plainly(pointer, shape_with(kMuch)), HasSubstr("out of memory")) << function;
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << function;
  }
  fail_next("cudaFuncSetAttribute", cudaErrorMemoryAllocation);
  EXPECT_THAT(launch_plainly(pointer, shape_with(kMuch, 16)), HasSubstr("out of memory"));
  EXPECT_EQ(launch_plainly(pointer, shape_with(kMuch, 16)), "");
}

TEST_F(CudaLaunch, AKernelThatCannotStartSaysWhatItWasAskedFor) {
  const auto* pointer = known_kernel<7>();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(launch_plainly(pointer, {{6, 3, 1}, 128, 300'000, 2}),
              "a kernel could not be started: invalid argument (grid 6 x 3 x 1, block 128, 300000 bytes of shared "
              "memory, cluster 2)");
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }
  EXPECT_EQ(launch_plainly(pointer, {{0, 1, 1}, 32}),
            "a kernel could not be started: invalid configuration argument (grid 0 x 1 x 1, block 32, 0 bytes of "
            "shared memory, cluster 1)");
  EXPECT_EQ(launch_plainly(pointer, shape_with(kMuch)), "");
}

TEST_F(CudaLaunch, ClustersOfMoreThanEightBlocksAreAskedForOnce) {
  const auto* pointer = known_kernel<8>();
  EXPECT_EQ(calls("cudaFuncSetAttribute", [&] { EXPECT_EQ(launch_plainly(pointer, shape_with(0, 8)), ""); }), 0);
  EXPECT_EQ(function_attribute(pointer, kAnyCluster), 0);
  EXPECT_EQ(calls("cudaFuncSetAttribute",
                  [&] {
                    for (int i = 0; i < 3; ++i) EXPECT_EQ(launch_plainly(pointer, shape_with(0, 16)), "");
                  }),
            1);
  EXPECT_EQ(function_attribute(pointer, kAnyCluster), 1);
}

TEST_F(CudaLaunch, WhetherAClusterFitsIsAskedOnceForAShape) {
  const auto* pointer = known_kernel<9>();
  const auto* other = known_kernel<10>();
  Device small;
  small.clusters = 0;
  const int second = add_device(small);
  const auto asked = [&](const void* of, const LaunchShape& shape, bool expected = true) {
    return calls("cudaOccupancyMaxActiveClusters", [&] { EXPECT_EQ(cluster_fits(of, shape), expected); });
  };
  for (const int times : {1, 0, 0}) {
    EXPECT_EQ(asked(pointer, shape_with(kMuch, 16)), times);
    EXPECT_EQ(asked(pointer, shape_with(kMore, 16)), times);
    EXPECT_EQ(asked(pointer, shape_with(kMuch, 4)), times);
    EXPECT_EQ(asked(pointer, {{32, 1, 1}, 64, kMuch, 16}), times);
    EXPECT_EQ(asked(other, shape_with(kMuch, 16)), times);
    ASSERT_EQ(cudaSetDevice(second), cudaSuccess);
    EXPECT_EQ(asked(pointer, shape_with(kMuch, 16), false), times);
    ASSERT_EQ(cudaSetDevice(device_), cudaSuccess);
  }
  EXPECT_EQ(asked(pointer, {{64, 2, 1}, 128, kMuch, 16}), 0) << "the size of the grid does not matter";
  EXPECT_EQ(calls("cudaFuncSetAttribute", [&] { EXPECT_EQ(launch_plainly(pointer, shape_with(kMore, 16)), ""); }), 0);
}

TEST_F(CudaLaunch, WhatCouldNotBeAskedDoesNotFitForNow) {
  const auto* pointer = known_kernel<11>();
  for (const auto* function : {"cudaGetDevice", "cudaFuncSetAttribute", "cudaOccupancyMaxActiveClusters"}) {
    fail_next(function, cudaErrorMemoryAllocation);
    EXPECT_FALSE(cluster_fits(pointer, shape_with(kMuch, 16))) << function;
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << function;
  }
  EXPECT_FALSE(cluster_fits(pointer, shape_with(kOptin + 1, 16)));
  EXPECT_TRUE(cluster_fits(pointer, shape_with(kMuch, 16)));
}

TEST_F(CudaLaunch, LimitsAreAskedOnceOfADevice) {
  Device ampere;
  ampere.optin_shared_bytes = 163 << 10;
  ampere.multiprocessor_shared_bytes = 164 << 10;
  ampere.multiprocessors = 108;
  ampere.major = 8;
  const int second = add_device(ampere);
  fail_next("cudaDeviceGetAttribute", cudaErrorMemoryAllocation);
  EXPECT_EQ(device_limits().shared_bytes, 0u);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(cudaSetDevice(device_), cudaSuccess);
    const auto limits = device_limits();
    EXPECT_EQ(limits.shared_bytes, kOptin);
    EXPECT_EQ(limits.multiprocessor_shared_bytes, 228u << 10);
    EXPECT_EQ(limits.reserved_shared_bytes, 1u << 10);
    EXPECT_EQ(limits.cluster, 16);
    EXPECT_EQ(limits.multiprocessors, 132);
    EXPECT_EQ(limits.generation, 90);
    ASSERT_EQ(cudaSetDevice(second), cudaSuccess);
    EXPECT_EQ(device_limits().shared_bytes, 163u << 10);
    EXPECT_EQ(device_limits().cluster, 1);
    EXPECT_EQ(device_limits().generation, 80);
  }
  EXPECT_EQ(calls("cudaDeviceGetAttribute", [] { device_limits(); }), 0);
}

TEST_F(CudaLaunch, WithoutADeviceThereIsNothing) {
  fail_next("cudaGetDevice", cudaErrorNoDevice);
  const auto limits = device_limits();
  EXPECT_EQ(limits.shared_bytes, 0u);
  EXPECT_EQ(limits.cluster, 1);
  EXPECT_EQ(limits.generation, 0);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  fail_next("cudaGetDevice", cudaErrorNoDevice);
  EXPECT_THAT(launch_plainly(known_kernel<12>(), shape_with(0)), HasSubstr("no CUDA-capable device is detected"));
  EXPECT_EQ(device_limits().shared_bytes, kOptin);
}

}  // namespace
}  // namespace hopfield::kernels::cuda
