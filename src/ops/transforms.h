#pragma once

#include <ATen/core/Tensor.h>

namespace hopfield::detail {

// Whether the values of a tensor can be read, or a transform or a recording wraps it. Undefined tensors are plain.

/// Whether a transform of torch.func (grad, jvp, vmap, ..) wraps the tensor, or forward-mode differentiation has given
/// it a tangent: the op then runs in LibTorch operations, which know what to do with such tensors.
bool is_transformed(const at::Tensor& tensor);

/// Whether a TorchDispatchMode is active on this thread. Such a mode does not see what kernels do through raw pointers,
/// nor that values are read back.
bool is_recording();

/// Whether a call with this tensor is recorded and not run: is_recording(), or the tensor has sizes but no numbers
/// (meta tensors, and fake ones, which torch.compile and torch.export use).
bool is_recorded(const at::Tensor& tensor);

/// Whether numbers of the tensor can be read back. They cannot if it is recorded, or if vmap has batched it.
bool has_values(const at::Tensor& tensor);

/// Whether vmap has batched the tensor, at any level.
bool is_batched(const at::Tensor& tensor);

/// The numbers of a tensor that has_values(), contiguous on the CPU, for data_ptr(). Inside torch.func, the results of
/// other calls are wrappers that have no data_ptr().
at::Tensor host_numbers(const at::Tensor& tensor, at::ScalarType type);

}  // namespace hopfield::detail
