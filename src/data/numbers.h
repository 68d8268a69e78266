#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace hopfield::data::detail {

/// The numbers of a tensor [n] of any real dtype.
/// @throws c10::Error naming `function` and `argument` if the tensor has another shape, is complex or holds a NaN.
std::vector<double> numbers_of(const at::Tensor& values, const char* function, const char* argument);

}  // namespace hopfield::data::detail
