#pragma once

#include <ATen/core/Tensor.h>

namespace hopfield::detail {

/// Whether work of the calling thread on the tensor's device is being captured into a CUDA graph: it is recorded, not
/// run, so that no value can be read back, and what comes from the host is the same in every replay.
bool is_capturing(const at::Tensor& tensor);

/// Makes known how to find that out on a kind of device; the file that knows the device does so when it is loaded.
class RegisterCaptureStatus {
 public:
  RegisterCaptureStatus(c10::DeviceType device, bool (*is_capturing)(c10::Device));
};

}  // namespace hopfield::detail
