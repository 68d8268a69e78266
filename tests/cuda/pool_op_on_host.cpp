// Has the pool op run the GPU's kernels on CPU tensors, through the host runtime: with it the op's tests are theirs.

#include "ops/pool_cuda.h"

namespace hopfield::detail {

struct LaunchContext::State {};
LaunchContext::LaunchContext(const at::Tensor&) {}
LaunchContext::~LaunchContext() = default;
void* LaunchContext::stream() const { return nullptr; }

namespace {
const RegisterPoolPasses kRegistration(c10::DeviceType::CPU, kPoolCudaPasses);
}  // namespace

}  // namespace hopfield::detail
