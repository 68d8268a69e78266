#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace hopfield::data::detail {

/// A tensor [n] of any real type as plain numbers.
/// @throws c10::Error naming function and argument if it has another shape, is complex or holds a NaN.
std::vector<double> numbers_of(const at::Tensor& values, const char* function, const char* argument);

}  // namespace hopfield::data::detail
