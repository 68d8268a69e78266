#include "ops/pool_cuda.h"

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
const RegisterPoolPasses kRegistration(c10::DeviceType::CUDA, kPoolCudaPasses);
}  // namespace

}  // namespace hopfield::detail
