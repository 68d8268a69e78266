#pragma once

#include <ATen/core/Tensor.h>

namespace hopfield::detail {

// What stands between a tensor and its numbers. Undefined tensors are plain.

/// Whether a transform of torch.func (grad, jvp, vmap, ..) wraps the tensor, or forward-mode differentiation has given
/// it a tangent: the op then runs in LibTorch operations, which know what to do with such tensors.
bool is_transformed(const at::Tensor& tensor);

/// Whether somebody listens to all calls of the thread (TorchDispatchMode): he would not see what kernels do with raw
/// pointers, and numbers that are read back may be lost on him.
bool is_recording();

/// Whether a call with this tensor is recorded and not run: is_recording(), or the tensor has sizes but no numbers
/// (meta tensors, and fake ones, which torch.compile and torch.export use).
bool is_recorded(const at::Tensor& tensor);

/// Whether numbers can be read back: not from recorded tensors, and not from those that vmap has batched.
bool has_values(const at::Tensor& tensor);

/// Whether vmap has batched the tensor, at any level.
bool is_batched(const at::Tensor& tensor);

/// The numbers of a tensor that has_values(), contiguous on the CPU, for data_ptr(): torch.func wraps those of any
/// other call.
at::Tensor host_numbers(const at::Tensor& tensor, at::ScalarType type);

}  // namespace hopfield::detail
