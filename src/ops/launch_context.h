#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

namespace hopfield::detail {

/// While this object lives, the device that a tensor is on is the current one, as launches of kernels need it.
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
