#include "nn/activation.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

namespace hopfield::nn {
namespace {

bool is_function_of_one_tensor(const c10::FunctionSchema& schema) {
  const auto& arguments = schema.arguments();
  const auto& returns = schema.returns();
  if (arguments.empty() || returns.size() != 1 || schema.is_mutable()) return false;
  for (size_t i = 1; i < arguments.size(); ++i) {
    if (!arguments[i].default_value()) return false;
  }
  return arguments[0].type()->isSubtypeOf(*c10::TensorType::get()) && !arguments[0].default_value() &&
         returns[0].type()->isSubtypeOf(*c10::TensorType::get());
}

}  // namespace

std::function<at::Tensor(const at::Tensor&)> elementwise_function(const std::string& name, const char* function,
                                                                  const char* option) {
  if (name == "gelu_tanh") return [](const at::Tensor& input) { return at::gelu(input, "tanh"); };
  const auto op = c10::Dispatcher::singleton().findSchema({"aten::" + name, ""});
  TORCH_CHECK(op && is_function_of_one_tensor(op->schema()), function, ": expected ", option,
              " to name an elementwise function of LibTorch, such as relu, tanh or gelu, got '", name, "'");
  return [handle = *op, message = std::string(function) + ": expected " + option +
                                  " to name an elementwise function, got '" + name +
                                  "', which changed the shape"](const at::Tensor& input) {
    torch::jit::Stack stack{input};
    for (size_t i = 1; i < handle.schema().arguments().size(); ++i) {
      stack.push_back(*handle.schema().arguments()[i].default_value());
    }
    handle.callBoxed(stack);
    auto output = stack.front().toTensor();
    TORCH_CHECK(output.sizes() == input.sizes(), message);
    return output;
  };
}

}  // namespace hopfield::nn
