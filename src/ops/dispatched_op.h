#pragma once

#include "ops/op_arguments.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <torch/library.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace hopfield::detail {

/// An op has kernels for three groups of dispatch keys.
enum class Stage {
  autograd,  ///< A call by the user, unless in inference mode. This stage chooses how it is served and differentiated.
  backend,   ///< A call below autograd: in inference mode, or from a recorded graph that is run.
  meta,      ///< A call without numbers. A recording takes the sizes of its results from here.
};

/// Whether a call is recorded and not run, see is_recorded().
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

/// The tensor on the device of the patterns. A recording knows a single device for each node, but some tensors of a
/// call may be on the CPU while its patterns are on a GPU.
at::Tensor recorded_on(c10::Device device, const at::Tensor& tensor);

/// Calls an op so that a recording has it as one node, and its backward pass as another: the op <name>_backward, which
/// makes the forward pass again. Nothing that depends on numbers, on the device or on lengths is decided here: the
/// stage `backend` does so when the recording is run.
torch::jit::Stack record(const c10::OperatorHandle& op, torch::jit::Stack arguments);

/// A result with the strides that the Meta kernel reports: everything is contiguous, but with `merges_heads` (output
/// and state [N, H, L, width]) heads are next to widths, so that layers merge them without a copy.
at::Tensor regular(const at::Tensor& tensor, bool merges_heads);

/// The results of a checked call as tensors without numbers, on the device of the patterns.
RetrieveResult retrieve_shapes(const RetrieveInput& input, const RetrieveSettings& settings);
PoolResult pool_shapes(const PoolInput& input, const RetrieveSettings& settings);

/// An op of the dispatcher. `Op` has
///
///     Input, Result, name              for example "retrieve"
///     arguments(), positional          those of the schema, and how many of them are positional: the patterns
///     check(input, settings)           throws for a wrong call
///     run(input, settings, seed)       serves a checked call
///     shapes(input, settings)          the results without numbers
template <typename Op>
class DispatchedOp {
  using Input = typename Op::Input;
  using Result = typename Op::Result;
  using Stack = torch::jit::Stack;

 public:
  static void define(torch::Library& library) {
    std::string results;
    for (const auto& [name, member] : result_members(Result())) {
      results += (results.empty() ? "" : ", ") + std::string("Tensor ") + name;
    }
    define_op(library, Op::name, declarations(arguments(), Op::positional), results);
    const auto add = [&](c10::DispatchKey key, torch::CppFunction&& kernel) {
      library.impl(Op::name, torch::dispatch(key, std::move(kernel)));
    };
    add(c10::DispatchKey::Autograd, torch::CppFunction::makeFromBoxedFunction<kernel<Stage::autograd>>());
    add(c10::DispatchKey::FuncTorchBatched, torch::CppFunction::makeFromBoxedFunction<kernel<Stage::autograd>>());
    add(c10::DispatchKey::CompositeExplicitAutograd,
        torch::CppFunction::makeFromBoxedFunction<kernel<Stage::backend>>());
    add(c10::DispatchKey::Meta, torch::CppFunction::makeFromBoxedFunction<kernel<Stage::meta>>());
  }

  static Result call(const Input& input, const RetrieveSettings& settings) {
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(qualified_name().c_str(), "");
    const OpArguments<Input> call{input, settings, {}};
    Stack stack;
    stack.reserve(arguments().size());
    for (const auto& argument : arguments()) stack.push_back(argument.write(call));
    op.callBoxed(stack);
    Result result;
    size_t i = 0;
    for (const auto& [name, member] : result_members(result)) result.*member = stack[i++].toTensor();
    return result;
  }

 private:
  static const std::vector<OpArgument<Input>>& arguments() {
    static const auto all = Op::arguments();
    return all;
  }

  static const std::string& qualified_name() {
    static const auto name = std::string("hopfield::") + Op::name;
    return name;
  }

  template <Stage stage>
  static void kernel(const c10::OperatorHandle& op, Stack* stack) {
    auto values = torch::jit::pop(*stack, arguments().size());
    OpArguments<Input> call;
    for (size_t i = 0; i < values.size(); ++i) arguments()[i].read(qualified_name().c_str(), values[i], call);
    if (stage == Stage::autograd && is_recorded_call(call.input, call.settings)) {
      move_to_patterns(call);
      for (size_t i = 0; i < values.size(); ++i) values[i] = arguments()[i].write(call);
      auto results = record(op, std::move(values));
      stack->insert(stack->end(), results.begin(), results.end());
      return;
    }
    const at::AutoGradMode grad_mode(at::GradMode::is_enabled() && stage == Stage::autograd);
    Op::check(call.input, call.settings);
    auto result = stage == Stage::meta ? Op::shapes(call.input, call.settings)
                                       : Op::run(call.input, std::move(call.settings), call.seed);
    for (const auto& [name, member] : result_members(result)) {
      const bool merges_heads = member == &RetrieveResult::output || member == &RetrieveResult::state;
      const auto& tensor = result.*member;
      stack->emplace_back(stage == Stage::backend ? regular(tensor, merges_heads) : tensor);
    }
  }

  static void move_to_patterns(OpArguments<Input>& call) {
    const auto device = call.input.state.device();
    const auto move = [&](at::Tensor& tensor) { tensor = recorded_on(device, tensor); };
    move(call.input.offsets);
    move(call.settings.beta);
    if constexpr (std::is_same_v<Input, RetrieveInput>) move(call.input.state_offsets);
  }
};

}  // namespace hopfield::detail
