#pragma once

#include "ops/call_tensors.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

namespace hopfield::detail {

/// An op has kernels for three groups of dispatch keys.
enum class Stage {
  autograd,  ///< a call by the user, unless in inference mode: chooses how it is served and differentiated
  backend,   ///< below autograd: inference mode, and calls of recorded graphs when these are run
  meta,      ///< sizes without numbers, which recording goes by
};

/// See is_recorded().
template <typename Input>
bool is_recorded_call(const Input& input, const RetrieveSettings& settings) {
  const auto tensors = tensors_of(input, settings);
  const bool transformed =
      std::any_of(tensors.begin(), tensors.end(), [](const auto* tensor) { return is_transformed(*tensor); });
  return !transformed &&
         std::any_of(tensors.begin(), tensors.end(), [](const auto* tensor) { return is_recorded(*tensor); });
}

/// Defines the op `name` and the one that a recording has for its backward pass.
void define_op(torch::Library& library, const std::string& name, const std::string& arguments,
               const std::string& results);

/// A tensor that may be on the CPU beside patterns on a GPU, moved to these: recordings know one device for each node.
std::optional<at::Tensor> recorded_on(c10::Device device, const std::optional<at::Tensor>& tensor);

/// Calls an op so that a recording has it as one node, and its backward pass as another: the op
/// <name>_backward, which makes the forward pass again. Nothing is decided here that depends on numbers, device or
/// lengths; the backend's stage does so when the recording is run.
torch::jit::Stack record(const c10::OperatorHandle& op, torch::jit::Stack arguments);

/// The same for a tuple of tensors, which an op of C++ returns.
template <typename Outputs, typename... Arguments>
Outputs record(const c10::OperatorHandle& op, const Arguments&... arguments) {
  torch::jit::Stack stack;
  torch::jit::push(stack, arguments...);
  const auto results = record(op, std::move(stack));
  Outputs outputs;
  size_t i = 0;
  std::apply([&](auto&... output) { ((output = results[i++].toTensor()), ...); }, outputs);
  return outputs;
}

/// Gives results the strides that the Meta kernel reports, whoever made them: output and state [N, H, L, width] have
/// heads next to widths, so that layers merge them without a copy, everything else is contiguous.
void make_regular(RetrieveResult& result);
void make_regular(PoolResult& result);

/// Results of checked calls without numbers.
RetrieveResult retrieve_shapes(const RetrieveInput& input, const RetrieveSettings& settings);
PoolResult pool_shapes(const PoolInput& input, const RetrieveSettings& settings);

}  // namespace hopfield::detail
