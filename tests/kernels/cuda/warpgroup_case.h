#pragma once

#include "harness.h"

namespace hopfield::kernels::cuda {

/// Tests of instructions that compute capability 9.0 alone has.
class CudaWarpgroup : public Cuda {
 protected:
  void SetUp() override {
    Cuda::SetUp();
    const int generation = device_generation();
    if (generation != 0 && generation != 90) {
      GTEST_SKIP() << "needs compute capability 9.0, the device has " << generation / 10 << "." << generation % 10;
    }
  }
};

}  // namespace hopfield::kernels::cuda
