#pragma once

#include <hopfield/ops/iteration.h>

#include <ATen/core/Tensor.h>

#include <kernels/cuda/element_type.h>

#include <string>

namespace hopfield {
struct RetrieveSettings;
}

namespace hopfield::detail {

// What calls of the GPU's kernels are put together from. Nothing here waits for the device.

/// Nothing, or that the kernels do not know tensors of this type.
std::string reason_against_type(const at::Tensor& tensor);
kernels::cuda::ElementType element_type(const at::Tensor& tensor);

/// Null for no tensor.
float* float_pointer(const at::Tensor& tensor);

/// Patterns whose rows begin at multiples of 16 bytes: as they are, or a copy with room behind each row.
at::Tensor with_aligned_rows(const at::Tensor& patterns);

/// Padding and key bias as one number for each key, -inf excludes; undefined: no bias.
at::Tensor joined_key_bias(const at::Tensor& key_bias, const at::Tensor& padding_mask, const at::TensorOptions& floats);

/// Whether LibTorch is asked for float32 products of float32.
bool wants_plain_float32();

/// What the iteration has for each head [heads], on the device.
struct IterationOnDevice {
  int64_t most_steps;
  at::Tensor steps_max, eps, beta;

  IterationOnDevice(const RetrieveSettings& settings, int64_t heads, int64_t depth, const at::TensorOptions& floats);
};

}  // namespace hopfield::detail
