#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

namespace hopfield::detail {

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
