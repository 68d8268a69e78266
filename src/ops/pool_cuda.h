#pragma once

#include "ops/pool_passes.h"

namespace hopfield::detail {

/// The kernels of kernels/cuda. The tests run them on CPU tensors, by the host runtime of tests/support/cuda_on_host.
extern const PoolPasses kPoolCudaPasses;

/// What a launch needs of the device that a tensor lies on, which is the current one meanwhile.
class LaunchContext {
 public:
  explicit LaunchContext(const at::Tensor& tensor);
  ~LaunchContext();
  LaunchContext(const LaunchContext&) = delete;
  LaunchContext& operator=(const LaunchContext&) = delete;
  /// The device's current stream.
  void* stream() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hopfield::detail
