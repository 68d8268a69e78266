// In a program that contains this file, the ops run the GPU's kernels on CPU tensors, through the host runtime. The
// ops' tests then test these kernels.

#include "ops/launch_context.h"
#include "ops/pool_cuda.h"
#include "ops/retrieve_cuda.h"
#include "support/device.h"

namespace hopfield::detail {

struct LaunchContext::State {};
LaunchContext::LaunchContext(const at::Tensor&) {}
LaunchContext::~LaunchContext() = default;
void* LaunchContext::stream() const { return nullptr; }

namespace {
const RegisterPoolPasses kPoolPasses(c10::DeviceType::CPU, kPoolCudaPasses);
const RegisterRetrievePasses kRetrievePasses(c10::DeviceType::CPU, kRetrieveCudaPasses);
[[maybe_unused]] const bool kIsSet = testing::kernels_run_on_host = true;
}  // namespace

}  // namespace hopfield::detail
