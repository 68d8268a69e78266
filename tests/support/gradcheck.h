#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

namespace hopfield::testing {

/// A function of tensors that returns tensors; undefined outputs are ignored.
using TensorFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

/// Largest error of autograd's gradient of a random linear functional of all outputs against central differences, over
/// every entry of every input (float64), relative to 1 + |gradient|.
double gradcheck(const TensorFunction& function, const std::vector<at::Tensor>& inputs, uint64_t seed = 1);

/// gradcheck of the gradient itself.
double gradgradcheck(const TensorFunction& function, const std::vector<at::Tensor>& inputs, uint64_t seed = 1);

}  // namespace hopfield::testing
