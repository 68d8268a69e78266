#include "ops/capture.h"
#include "ops/kernels_cuda.h"
#include "ops/launch_context.h"

#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace hopfield::detail {

struct LaunchContext::State {
  explicit State(c10::Device device) : guard(device), stream(c10::cuda::getCurrentCUDAStream(device.index())) {}
  c10::cuda::CUDAGuard guard;
  c10::cuda::CUDAStream stream;
};

LaunchContext::LaunchContext(const at::Tensor& tensor) : state_(std::make_unique<State>(tensor.device())) {}
LaunchContext::~LaunchContext() = default;
void* LaunchContext::stream() const { return state_->stream.stream(); }

namespace {

/// Of the device's current stream.
bool is_capturing_cuda(c10::Device device) {
  const c10::cuda::CUDAGuard guard(device);
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}

const RegisterDeviceKernels kKernels(c10::DeviceType::CUDA, kCudaKernels);
const RegisterCaptureStatus kCaptureStatus(c10::DeviceType::CUDA, is_capturing_cuda);

}  // namespace

}  // namespace hopfield::detail
