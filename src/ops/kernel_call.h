#pragma once

#include "ops/device_kernels.h"

#include <kernels/params.h>

#include <initializer_list>
#include <vector>

namespace hopfield::detail {

kernels::ElementType element_type(const at::Tensor& tensor);

/// Strides of patterns [N or 1, H or 1, rows, width], or ragged [total, H or 1, width].
kernels::Strided strided(const at::Tensor& tensor);

/// The numbers of a float32 tensor; null for an undefined tensor.
float* float_pointer(const at::Tensor& tensor);

/// Padding and key bias together: one number for each key, of which -inf excludes it; undefined if there is neither.
at::Tensor joined_key_bias(const Masks& masks, const at::TensorOptions& floats);

/// The call with real copies of patterns that are expanded: each of their entries has a gradient of its own.
OpCall with_own_patterns(OpCall call);

/// Patterns as they are, or a copy of them whose rows the kernels of a device can read.
using UsableRows = at::Tensor (*)(const at::Tensor& patterns);

/// An op's call in the terms of the kernels, for either device, with the tensors that its pointers point into.
class KernelCall {
 public:
  /// @param masks  those of the call, or others that the kernels are to take in their place
  KernelCall(const OpCall& call, const Masks& masks, UsableRows usable_rows);
  KernelCall(const KernelCall&) = delete;
  KernelCall& operator=(const KernelCall&) = delete;

  /// Sets the map of a pool: W, W^T (or undefined) and b (or undefined), float32 and contiguous.
  void set_map(const OpCall& call, at::Tensor weight, at::Tensor transposed, at::Tensor bias);

  kernels::Call call;

  /// The shape [N, H, L, ..].
  std::vector<int64_t> rows(std::initializer_list<int64_t> more = {}) const;
  /// The shape [steps, N, H, L, width].
  std::vector<int64_t> rows_of_steps(int64_t steps, int64_t width) const;

  /// Memory for what the forward pass writes.
  /// @param patterns  type and device of output and state
  /// @param merged    output and state have heads next to widths, so that layers merge the heads without a copy
  kernels::Outputs make_outputs(PoolResult& result, const at::TensorOptions& patterns, bool merged,
                                bool with_scores) const;

  /// What the backward pass reads and writes, but for the gradients of patterns. Gradients that come in for output and
  /// state are converted to the type of `patterns` and kept here; the one for the output is always there.
  /// @param result  where state and beta go; a state that is given is written in place of a new one
  kernels::Gradients make_gradients(const OpCall& call, const Saved& saved, const PoolResult& incoming,
                                    const at::TensorOptions& patterns, UsableRows usable_rows, KernelGradients& result);

  static kernels::Saved pointers(const Saved& saved);

 private:
  const at::Tensor& keep(at::Tensor tensor);
  void set_iteration(const OpCall& call);
  void set_masks(const Masks& masks);
  at::Tensor beta_of_heads(const at::Tensor& beta) const;

  at::TensorOptions floats_;
  std::vector<at::Tensor> kept_;
};

}  // namespace hopfield::detail
