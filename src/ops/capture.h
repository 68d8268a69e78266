#pragma once

#include <ATen/core/Tensor.h>

namespace hopfield::detail {

/// Whether work of the calling thread on the tensor's device is being captured into a CUDA graph. Such work is recorded
/// and not run: no value can be read back, and numbers that come from the host are the same in every replay.
bool is_capturing(const at::Tensor& tensor);

/// Registers the function that finds this out for a kind of device. The file that knows the device does so when the
/// library is loaded.
class RegisterCaptureStatus {
 public:
  RegisterCaptureStatus(c10::DeviceType device, bool (*is_capturing)(c10::Device));
};

}  // namespace hopfield::detail
