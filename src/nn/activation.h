#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

namespace hopfield::nn {

/// LibTorch's elementwise function of that name: "relu", "tanh", "gelu", ... every operator of one tensor whose other
/// arguments have defaults. @throws c10::Error, beginning with `function` and naming `option`, if there is none.
std::function<at::Tensor(const at::Tensor&)> elementwise_function(const std::string& name, const char* function,
                                                                  const char* option);

}  // namespace hopfield::nn
