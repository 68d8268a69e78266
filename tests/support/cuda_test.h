#pragma once

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <gtest/gtest.h>

namespace hopfield::testing {

/// Tests of the library that need a GPU.
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "there is no CUDA device";
  }
};

/// Bytes that the current device could still give.
inline int64_t free_device_memory() {
  c10::cuda::CUDACachingAllocator::emptyCache();
  return static_cast<int64_t>(c10::cuda::CUDACachingAllocator::get()->getMemoryInfo(c10::cuda::current_device()).first);
}

}  // namespace hopfield::testing
