#include "ops/dispatched_op.h"
#include "ops/retrieve_internal.h"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

// Everything here works on the dispatcher's stacks, so that it serves both ops.

namespace hopfield::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using torch::jit::Stack;

// The results of both ops at these places have no gradient: steps, residual and converged.
constexpr size_t kFirstConstant = 3, kLastConstant = 5;

bool holds_tensor(const c10::IValue& value) { return value.isTensor() && value.toTensor().defined(); }

c10::OperatorHandle find_op(const std::string& name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), "");
}

/// What the backward pass needs of a call that was recorded.
struct RecordedCall : torch::CustomClassHolder {
  RecordedCall(const c10::OperatorHandle& forward_op, Stack all) : op(forward_op), arguments(std::move(all)) {
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (!holds_tensor(arguments[i])) continue;
      tensors.push_back(i);
      if (arguments[i].toTensor().requires_grad()) followed.push_back(i);
    }
  }

  variable_list at(const std::vector<size_t>& places) const {
    variable_list found;
    for (const auto place : places) found.push_back(arguments[place].toTensor());
    return found;
  }

  c10::OperatorHandle op;
  Stack arguments;
  std::vector<size_t> tensors, followed;  // places of tensors in the arguments; of those that ask for a gradient
  std::vector<size_t> results;            // places of tensors in the results
};

Stack call_below_autograd(const c10::OperatorHandle& op, Stack stack) {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  op.callBoxed(stack);
  return stack;
}

class RecordedNode : public torch::autograd::Function<RecordedNode> {
 public:
  static variable_list forward(AutogradContext* ctx, at::TensorList, const c10::intrusive_ptr<RecordedCall>& call) {
    ctx->save_for_backward(call->at(call->tensors));
    const auto results = call_below_autograd(call->op, call->arguments);
    for (const auto place : call->tensors) call->arguments[place] = c10::IValue();  // the node keeps them
    variable_list outputs, constants;
    for (size_t i = 0; i < results.size(); ++i) {
      if (!holds_tensor(results[i])) continue;
      call->results.push_back(i);
      outputs.push_back(results[i].toTensor());
      if (i >= kFirstConstant && i <= kLastConstant) constants.push_back(outputs.back());
    }
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable(constants);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto call = c10::static_intrusive_pointer_cast<RecordedCall>(ctx->saved_data["call"].toCapsule());
    const auto& name = call->op.operator_name().name;
    TORCH_CHECK(!at::GradMode::is_enabled(), name,
                ": expected no second derivative of a call that is recorded (torch.compile, meta and fake tensors, "
                "TorchDispatchMode), got a backward pass with create_graph; leave it out of the recording");
    c10::List<std::optional<at::Tensor>> incoming;
    incoming.resize(call->op.schema().returns().size());
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (gradients[i].defined()) incoming.set(call->results[i], gradients[i]);
    }
    std::vector<int64_t> wanted;
    for (size_t i = 0; i < call->followed.size(); ++i) {
      if (ctx->needs_input_grad(i)) wanted.push_back(static_cast<int64_t>(call->followed[i]));
    }
    Stack stack{incoming, wanted};
    stack.insert(stack.end(), call->arguments.begin(), call->arguments.end());
    const auto saved = ctx->get_saved_variables();
    for (size_t i = 0; i < saved.size(); ++i) stack[2 + call->tensors[i]] = saved[i];
    find_op(name + "_backward").callBoxed(stack);
    const auto found = stack.at(0).toTensorVector();
    variable_list result(call->followed.size() + 1);
    for (size_t i = 0, next = 0; i < call->followed.size(); ++i) {
      if (ctx->needs_input_grad(i)) result[i] = found[next++];
    }
    return result;
  }
};

/// Adds an op to the recording that draws the seed of the dropout mask when the recording is run, once for the forward
/// and the backward pass.
void draw_seed_of(const c10::OperatorHandle& op, Stack& arguments) {
  const auto place = [&](const char* name) {
    return static_cast<size_t>(op.schema().argumentIndexWithName(name).value());
  };
  auto& seed = arguments.at(place("seed"));
  if (arguments.at(place("dropout")).toDouble() == 0 || holds_tensor(seed)) return;
  Stack stack{at::empty({0}, at::kLong), arguments.at(place("generator"))};
  find_op("hopfield::dropout_seed").callBoxed(stack);
  seed = stack.at(0);
}

void dropout_seed_kernel(const c10::OperatorHandle&, Stack* stack) {
  const auto generator = torch::jit::pop(*stack).toOptional<at::Generator>().value_or(at::Generator());
  const auto like = torch::jit::pop(*stack).toTensor();
  torch::jit::push(*stack, at::full({}, static_cast<int64_t>(draw_seed(generator)), like.options().dtype(at::kLong)));
}

void dropout_seed_meta(const c10::OperatorHandle&, Stack* stack) {
  torch::jit::drop(*stack, 1);
  const auto like = torch::jit::pop(*stack).toTensor();
  torch::jit::push(*stack, at::empty({}, like.options().dtype(at::kLong)));
}

/// The arguments of the op `<name>_backward`.
struct BackwardArguments {
  explicit BackwardArguments(Stack* stack, const c10::OperatorHandle& op)
      : forward_arguments(torch::jit::pop(*stack, op.schema().arguments().size() - 2)),
        wanted(torch::jit::pop(*stack).toIntVector()),
        gradients(torch::jit::pop(*stack).toOptionalTensorVector()) {}
  Stack forward_arguments;
  std::vector<int64_t> wanted;
  std::vector<std::optional<at::Tensor>> gradients;
};

/// Makes the forward pass again, with autograd, and returns its gradients.
void backward_kernel(const c10::OperatorHandle& handle, Stack* stack) {
  auto given = BackwardArguments(stack, handle);
  const auto& name = handle.operator_name().name;
  const auto op = find_op(name.substr(0, name.size() - std::string("_backward").size()));
  // Autocast has already converted these arguments. This kernel is called below autograd, where nothing would be
  // differentiated, so that autograd's keys have to be included again.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto keys = c10::impl::tls_local_dispatch_key_set();
  const c10::impl::ForceDispatchKeyGuard with_autograd(
      keys.included_,
      keys.excluded_ - c10::autograd_dispatch_keyset - c10::DispatchKeySet(c10::DispatchKey::ADInplaceOrView));
  const at::AutoGradMode grad_mode(true);
  for (auto& argument : given.forward_arguments) {
    if (holds_tensor(argument)) argument = argument.toTensor().detach();
  }
  variable_list leaves, outputs, gradients;
  for (const auto place : given.wanted) {
    auto& argument = given.forward_arguments.at(place);
    leaves.push_back(argument.toTensor().requires_grad_(true));
    argument = leaves.back();
  }
  op.callBoxed(given.forward_arguments);
  for (size_t i = 0; i < given.gradients.size(); ++i) {
    const auto& gradient = given.gradients[i];
    if (!gradient || !gradient->defined() || !given.forward_arguments[i].toTensor().requires_grad()) continue;
    outputs.push_back(given.forward_arguments[i].toTensor());
    gradients.push_back(*gradient);
  }
  auto found = outputs.empty() ? variable_list(leaves.size())
                               : torch::autograd::grad(outputs, leaves, gradients, std::nullopt, false, true);
  for (size_t i = 0; i < found.size(); ++i) {
    // A recording relies on gradients that are contiguous and that share no memory.
    found[i] = found[i].defined() ? found[i].contiguous() : at::zeros_like(leaves[i], {}, at::MemoryFormat::Contiguous);
    const auto is_alias = [&](const at::Tensor& other) { return found[i].is_alias_of(other); };
    if (std::any_of(gradients.begin(), gradients.end(), is_alias) ||
        std::any_of(found.begin(), found.begin() + i, is_alias)) {
      found[i] = found[i].clone();
    }
  }
  torch::jit::push(*stack, std::move(found));
}

void backward_meta(const c10::OperatorHandle& handle, Stack* stack) {
  const auto given = BackwardArguments(stack, handle);
  variable_list found;
  for (const auto place : given.wanted) {
    const auto& tensor = given.forward_arguments.at(place).toTensor();
    found.push_back(at::empty_symint(tensor.sym_sizes(), tensor.options().requires_grad(false)));
  }
  torch::jit::push(*stack, std::move(found));
}

TORCH_LIBRARY_FRAGMENT(hopfield, library) {
  library.def("dropout_seed(Tensor like, Generator? generator=None) -> Tensor",
              {at::Tag::pt2_compliant_tag, at::Tag::nondeterministic_seeded});
  library.impl("dropout_seed", torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd,
                                               torch::CppFunction::makeFromBoxedFunction<dropout_seed_kernel>()));
  library.impl("dropout_seed",
               torch::dispatch(c10::DispatchKey::Meta, torch::CppFunction::makeFromBoxedFunction<dropout_seed_meta>()));
}

}  // namespace

void define_op(torch::Library& library, const std::string& name, const std::string& arguments,
               const std::string& results) {
  library.def((name + "(" + arguments + ") -> (" + results + ")").c_str(), {at::Tag::pt2_compliant_tag});
  const auto backward = name + "_backward";
  library.def((backward + "(Tensor?[] gradients, int[] wanted, " + arguments + ") -> Tensor[]").c_str(),
              {at::Tag::pt2_compliant_tag});
  library.impl(backward.c_str(), torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd,
                                                 torch::CppFunction::makeFromBoxedFunction<backward_kernel>()));
  library.impl(backward.c_str(),
               torch::dispatch(c10::DispatchKey::Meta, torch::CppFunction::makeFromBoxedFunction<backward_meta>()));
}

at::Tensor recorded_on(c10::Device device, const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.device() == device || device.is_meta() || tensor.is_meta()) return tensor;
  return tensor.to(device);
}

Stack record(const c10::OperatorHandle& op, Stack arguments) {
  draw_seed_of(op, arguments);
  const auto call = c10::make_intrusive<RecordedCall>(op, std::move(arguments));
  if (!at::GradMode::is_enabled() || call->followed.empty()) return call_below_autograd(op, call->arguments);
  const auto followed = call->at(call->followed);
  const auto outputs = RecordedNode::apply(at::TensorList(followed), call);
  Stack results(op.schema().returns().size(), at::Tensor());
  for (size_t i = 0; i < outputs.size(); ++i) results[call->results[i]] = outputs[i];
  return results;
}

}  // namespace hopfield::detail
