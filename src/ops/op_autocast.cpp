#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace hopfield {
namespace {

/// Under autocast the patterns, which are the positional arguments of both ops, are converted to the lower precision;
/// everything else stays as it is. This works on the dispatcher's stack, and so serves both ops.
template <c10::DeviceType device>
void autocast(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  const auto dtype = at::autocast::get_autocast_dtype(device);
  const auto& declared = op.schema().arguments();
  auto arguments = torch::jit::last(*stack, declared.size());
  for (size_t i = 0; i < declared.size() && !declared[i].kwarg_only(); ++i) {
    auto& argument = const_cast<c10::IValue&>(arguments[i]);
    if (argument.isTensor()) argument = at::autocast::cached_cast(dtype, argument.toTensor(), device);
  }
  op.callBoxed(stack);
}

template <c10::DeviceType device>
void register_autocast(torch::Library& library) {
  for (const auto* name : {"retrieve", "pool"}) {
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&autocast<device>>());
  }
}

TORCH_LIBRARY_IMPL(hopfield, AutocastCPU, library) { register_autocast<c10::DeviceType::CPU>(library); }
TORCH_LIBRARY_IMPL(hopfield, AutocastCUDA, library) { register_autocast<c10::DeviceType::CUDA>(library); }

}  // namespace
}  // namespace hopfield
