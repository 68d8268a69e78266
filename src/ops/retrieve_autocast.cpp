#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace hopfield {
namespace {

/// Under autocast the patterns take the lower precision; everything else stays as it is. Works on the stack, so that it
/// does not repeat the op's signature.
template <c10::DeviceType device>
void autocast(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  constexpr size_t kPatterns = 3;  // state, stored, projection
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  const auto dtype = at::autocast::get_autocast_dtype(device);
  auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  for (size_t i = 0; i < kPatterns; ++i) {
    auto& argument = const_cast<c10::IValue&>(arguments[i]);
    if (argument.isTensor()) argument = at::autocast::cached_cast(dtype, argument.toTensor(), device);
  }
  op.callBoxed(stack);
}

TORCH_LIBRARY_IMPL(hopfield, AutocastCPU, library) {
  library.impl("retrieve", torch::CppFunction::makeFromBoxedFunction<&autocast<c10::DeviceType::CPU>>());
}
TORCH_LIBRARY_IMPL(hopfield, AutocastCUDA, library) {
  library.impl("retrieve", torch::CppFunction::makeFromBoxedFunction<&autocast<c10::DeviceType::CUDA>>());
}

}  // namespace
}  // namespace hopfield
