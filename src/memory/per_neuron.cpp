#include "memory/per_neuron_checks.h"

#include <ATen/ATen.h>

#include <utility>

namespace hopfield::memory {

PerNeuron::PerNeuron(double value) : value_(at::scalar_tensor(value, at::kDouble)) {}
PerNeuron::PerNeuron(at::Tensor value) : value_(std::move(value)) {}

namespace detail {

void check_per_neuron(const PerNeuron& option, const char* name, bool is_positive, const std::string& prefix) {
  const auto& value = option.value();
  TORCH_CHECK(value.defined() && value.dim() <= 1 && at::isFloatingType(value.scalar_type()), prefix, "expected ", name,
              " to be a number or a floating-point tensor [d], got ",
              value.defined() ? c10::str(value.sizes(), " of type ", value.scalar_type()) : "an undefined tensor");
  auto is_right = at::isfinite(value);
  if (is_positive) is_right = is_right.bitwise_and(value > 0);
  TORCH_CHECK(is_right.all().item<bool>(), prefix, "expected ", name, " to be ", is_positive ? "positive and " : "",
              "finite, got other values");
}

void check_width(const PerNeuron& option, const char* name, int64_t width, const std::string& prefix) {
  const auto& value = option.value();
  TORCH_CHECK(value.dim() == 0 || value.size(0) == width, prefix, "expected ", name, " to be a number or [", width,
              "] like the patterns, got ", value.sizes());
}

}  // namespace detail
}  // namespace hopfield::memory
