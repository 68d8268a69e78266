#include "ops/transforms.h"

#include <ATen/ATen.h>
#include <ATen/FunctionalTensorWrapper.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/functorch/TensorWrapper.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>

namespace hopfield::detail {
namespace {

bool has_no_storage(const at::Tensor& tensor) {
  return tensor.is_meta() || tensor.unsafeGetTensorImpl()->is_python_dispatch() ||
         at::functionalization::impl::isFunctionalTensor(tensor);
}

/// What is inside the wrappers of torch.func's grad and jvp.
const at::Tensor& unwrapped(const at::Tensor& tensor) {
  const auto* inner = &tensor;
  while (const auto* wrapper = at::functorch::maybeGetTensorWrapper(*inner)) inner = &wrapper->value();
  return *inner;
}

}  // namespace

bool is_transformed(const at::Tensor& tensor) {
  if (!tensor.defined()) return false;
  constexpr c10::DispatchKeySet kWrappers(
      {c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::Batched, c10::DispatchKey::FuncTorchGradWrapper});
  return tensor.key_set().has_any(kWrappers) || tensor._fw_grad(0).defined();
}

bool is_recording() { return c10::impl::TorchDispatchModeTLS::any_modes_set(); }

bool is_recorded(const at::Tensor& tensor) { return is_recording() || (tensor.defined() && has_no_storage(tensor)); }

bool has_values(const at::Tensor& tensor) {
  return !tensor.defined() || (!is_batched(tensor) && !has_no_storage(unwrapped(tensor)));
}

bool is_batched(const at::Tensor& tensor) {
  if (!tensor.defined()) return false;
  const auto& inner = unwrapped(tensor);
  return at::functorch::isBatchedTensor(inner) || inner.key_set().has(c10::DispatchKey::Batched);
}

at::Tensor host_numbers(const at::Tensor& tensor, at::ScalarType type) {
  return unwrapped(tensor.detach().to(at::kCPU, type).contiguous());
}

}  // namespace hopfield::detail
