#include "ops/capture.h"

#include <array>

namespace hopfield::detail {
namespace {

using CaptureStatus = bool (*)(c10::Device);

std::array<CaptureStatus, c10::COMPILE_TIME_MAX_DEVICE_TYPES>& all_statuses() {
  static std::array<CaptureStatus, c10::COMPILE_TIME_MAX_DEVICE_TYPES> statuses{};
  return statuses;
}

}  // namespace

bool is_capturing(const at::Tensor& tensor) {
  const auto status = all_statuses()[static_cast<size_t>(tensor.device().type())];
  return status != nullptr && status(tensor.device());
}

RegisterCaptureStatus::RegisterCaptureStatus(c10::DeviceType device, bool (*is_capturing)(c10::Device)) {
  all_statuses()[static_cast<size_t>(device)] = is_capturing;
}

}  // namespace hopfield::detail
