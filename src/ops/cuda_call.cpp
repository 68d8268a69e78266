#include "ops/cuda_call.h"

#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hopfield::detail {
namespace {

/// A number for each head on the device, without waiting for it.
template <typename T>
at::Tensor per_head(const std::vector<T>& values, int64_t heads, const at::TensorOptions& options) {
  if (values.size() == 1) return at::full({heads}, values[0], options);
  std::vector<at::Tensor> parts;
  for (const auto value : values) parts.push_back(at::full({1}, value, options));
  return parts.empty() ? at::empty({0}, options) : at::cat(parts);
}

at::Tensor beta_on_device(const at::Tensor& beta, int64_t heads, int64_t depth, const at::TensorOptions& floats) {
  if (!beta.defined()) {
    return at::full({heads}, 1.0 / std::sqrt(static_cast<double>(std::max<int64_t>(depth, 1))), floats);
  }
  if (!beta.is_cpu()) return beta.detach().to(floats).expand({heads}).contiguous();
  const auto given = beta.detach().to(at::kDouble).contiguous();
  return per_head(std::vector<double>(given.data_ptr<double>(), given.data_ptr<double>() + given.numel()), heads,
                  floats);
}

}  // namespace

std::string reason_against_type(const at::Tensor& tensor) {
  const auto type = tensor.scalar_type();
  if (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf) return {};
  return c10::str("the fused kernels of the GPU take float32, bfloat16 and float16, not ", type);
}

kernels::cuda::ElementType element_type(const at::Tensor& tensor) {
  using Type = kernels::cuda::ElementType;
  if (tensor.scalar_type() == at::kBFloat16) return Type::bfloat16;
  return tensor.scalar_type() == at::kHalf ? Type::float16 : Type::float32;
}

float* float_pointer(const at::Tensor& tensor) { return tensor.defined() ? tensor.data_ptr<float>() : nullptr; }

at::Tensor with_aligned_rows(const at::Tensor& patterns) {
  const auto in_piece = static_cast<int64_t>(16 / patterns.element_size());
  const auto last = patterns.dim() - 1, width = patterns.size(last);
  bool aligned =
      reinterpret_cast<uintptr_t>(patterns.data_ptr()) % 16 == 0 && (patterns.stride(last) == 1 || width <= 1);
  for (int64_t i = 0; i < last; ++i) aligned = aligned && (patterns.size(i) == 1 || patterns.stride(i) % in_piece == 0);
  if (aligned || patterns.numel() == 0) return patterns;
  auto shape = patterns.sizes().vec();
  shape.back() = (width + in_piece - 1) / in_piece * in_piece;
  auto copy = at::empty(shape, patterns.options()).narrow(last, 0, width);
  copy.copy_(patterns);
  return copy;
}

at::Tensor joined_key_bias(const at::Tensor& key_bias, const at::Tensor& padding_mask,
                           const at::TensorOptions& floats) {
  at::Tensor joined = key_bias.defined() ? key_bias.detach().to(floats) : at::Tensor();
  if (!padding_mask.defined()) return joined;
  if (!joined.defined()) joined = at::zeros({1}, floats);
  return joined.masked_fill(padding_mask, -std::numeric_limits<double>::infinity());
}

bool wants_plain_float32() {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) !=
         at::Float32Precision::TF32;
}

IterationOnDevice::IterationOnDevice(const RetrieveSettings& settings, int64_t heads, int64_t depth,
                                     const at::TensorOptions& floats) {
  auto steps = settings.update_steps_max.values();
  for (auto& count : steps) count = count < 0 ? settings.update_steps_cap : count;
  most_steps = steps.empty() ? 0 : *std::max_element(steps.begin(), steps.end());
  steps_max = per_head(steps, heads, floats.dtype(at::kLong));
  eps = per_head(settings.update_steps_eps.values(), heads, floats);
  beta = beta_on_device(settings.beta, heads, depth, floats);
}

}  // namespace hopfield::detail
