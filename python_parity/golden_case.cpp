#include "golden_case.h"

#include <torch/csrc/jit/serialization/pickle.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <limits>

namespace hopfield::parity {
namespace {

using Dict = c10::Dict<c10::IValue, c10::IValue>;
using Errors = std::vector<std::pair<std::string, double>>;

at::Tensor tensor_or_none(const c10::IValue& value) { return value.isTensor() ? value.toTensor() : at::Tensor(); }

std::vector<at::Tensor> tensor_list(const c10::IValue& value) {
  if (value.isTensorList()) return value.toTensorVector();
  std::vector<at::Tensor> tensors;
  for (const auto& element : value.isTuple() ? value.toTupleRef().elements().vec() : value.toListRef().vec()) {
    tensors.push_back(tensor_or_none(element));
  }
  return tensors;
}

template <typename T>
std::map<std::string, T> string_map(const c10::IValue& value, const std::function<T(const c10::IValue&)>& convert) {
  std::map<std::string, T> map;
  for (const auto& entry : value.toGenericDict()) map[entry.key().toStringRef()] = convert(entry.value());
  return map;
}

const c10::IValue& member(const Dict& dict, const std::string& name) {
  static thread_local c10::IValue held;
  TORCH_CHECK(dict.contains(name), "expected an entry '", name, "' in the case, got none");
  held = dict.at(name);
  return held;
}

template <typename T>
PerHead<T> per_head(const c10::IValue& value) {
  if (value.isTensor()) {
    const auto tensor = value.toTensor().to(c10::CppTypeToScalarType<T>::value).contiguous().flatten();
    return std::vector<T>(tensor.template data_ptr<T>(), tensor.template data_ptr<T>() + tensor.numel());
  }
  return value.toScalar().to<T>();
}

/// Sets the option of the same name as a Python argument. Returns false if there is no such option.
template <typename Options>
bool set_option(Options& o, const std::string& name, const c10::IValue& value) {
  const bool none = value.isNone() || (value.isString() && value.toStringRef() == "none");
  if (name == "update_steps_max") {
    none ? o.until_converged() : o.update_steps_max(per_head<int64_t>(value));
    return true;
  }
  if (none) return true;  // every other None is the default here too
  if (name == "scaling") return o.scaling(per_head<double>(value)), true;
  if (name == "update_steps_eps") return o.update_steps_eps(per_head<double>(value)), true;
  if (name == "association_activation") return o.association_activation(value.toStringRef()), true;
  if (name == "dropout") return o.dropout(value.toScalar().toDouble()), true;

#define INTEGER(option) \
  if (name == #option) return o.option(value.toInt()), true;
#define BOOLEAN(option) \
  if (name == #option) return o.option(value.toBool()), true;
#define REAL(option) \
  if (name == #option) return o.option(value.toScalar().toDouble()), true;
  INTEGER(input_size)
  INTEGER(hidden_size)
  INTEGER(output_size)
  INTEGER(pattern_size)
  INTEGER(stored_pattern_size)
  INTEGER(pattern_projection_size)
  INTEGER(num_heads)
  BOOLEAN(normalize_stored_pattern)
  BOOLEAN(normalize_stored_pattern_affine)
  BOOLEAN(normalize_state_pattern)
  BOOLEAN(normalize_state_pattern_affine)
  BOOLEAN(normalize_pattern_projection)
  BOOLEAN(normalize_pattern_projection_affine)
  BOOLEAN(normalize_hopfield_space)
  BOOLEAN(normalize_hopfield_space_affine)
  REAL(normalize_stored_pattern_eps)
  REAL(normalize_state_pattern_eps)
  REAL(normalize_pattern_projection_eps)
  REAL(normalize_hopfield_space_eps)
  BOOLEAN(stored_pattern_as_static)
  BOOLEAN(state_pattern_as_static)
  BOOLEAN(pattern_projection_as_static)
  BOOLEAN(pattern_projection_as_connected)
  BOOLEAN(batch_first)
  BOOLEAN(input_bias)
  BOOLEAN(concat_bias_pattern)
  BOOLEAN(add_zero_association)
  BOOLEAN(disable_out_projection)
  if constexpr (!std::is_same_v<Options, nn::HopfieldOptions>) {
    INTEGER(quantity)
    BOOLEAN(trainable)
  }
  if constexpr (std::is_same_v<Options, nn::HopfieldLayerOptions>) {
    BOOLEAN(lookup_weights_as_separated)
    BOOLEAN(lookup_targets_as_trainable)
  }
#undef INTEGER
#undef BOOLEAN
#undef REAL
  return false;
}

template <typename Options>
Options options_of(const GoldenCase& golden) {
  Options options;
  for (const auto& [name, value] : golden.config) {
    TORCH_CHECK(set_option(options, name, value), "expected an argument of ", golden.module, ", got '", name, "'");
  }
  // The stop rule of hflayers, which does not limit the number of updates.
  return options.stop_rule(StopRule::per_head).update_steps_cap(100000);
}

double largest_error(const at::Tensor& ours, const at::Tensor& theirs) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (!theirs.defined()) return ours.defined() && ours.abs().sum().item<double>() != 0 ? infinity : 0;
  // A gradient that autograd has not computed counts as zero.
  if (!ours.defined()) return theirs.numel() == 0 ? 0 : theirs.abs().max().item<double>();
  if (ours.sizes() != theirs.sizes()) return infinity;
  if (ours.numel() == 0) return 0;
  const auto a = ours.detach().to(at::kDouble), b = theirs.to(at::kDouble);
  const auto difference = at::where(a.isnan().logical_and(b.isnan()), at::zeros_like(a), (a - b).abs());
  const auto largest = difference.max().item<double>();
  return std::isnan(largest) ? infinity : largest;
}

template <typename Module>
void load_parameters(Module& module, const GoldenCase& golden) {
  module->to(torch::kFloat64);
  module->eval();
  torch::NoGradGuard no_grad;
  auto parameters = module->named_parameters();
  TORCH_CHECK(parameters.size() == golden.state_dict.size(), "expected ", parameters.size(),
              " parameters in the state dict, got ", golden.state_dict.size());
  for (auto& parameter : parameters) {
    const auto entry = golden.state_dict.find(parameter.key());
    TORCH_CHECK(entry != golden.state_dict.end(), "expected a parameter '", parameter.key(), "' in the state dict");
    TORCH_CHECK(entry->second.sizes() == parameter->sizes(), "expected '", parameter.key(), "' to have shape ",
                parameter->sizes(), ", got ", entry->second.sizes());
    parameter->copy_(entry->second);
  }
}

/// The results of a call, in a form that is the same for the three modules.
struct Call {
  at::Tensor output;
  std::function<at::Tensor()> association_matrix, projected_pattern_matrix;
};

/// @param x  one input, or those of the Python package in its order: stored, state, projection
Call call(nn::Hopfield& module, const std::vector<at::Tensor>& x, const Masks& masks) {
  const auto input = x.size() == 1 ? nn::AssociationInput{x[0], x[0]} : nn::AssociationInput{x.at(1), x.at(0), x.at(2)};
  const auto output = x.size() == 1 ? module->forward(x[0], masks.padding_mask, masks.association_mask)
                                    : module->associate(input, masks).output;
  return {output, [=]() mutable { return module->get_association_matrix(input, masks); },
          [=]() mutable { return module->get_projected_pattern_matrix(input); }};
}

Call call(nn::HopfieldPooling& module, const std::vector<at::Tensor>& x, const Masks& masks) {
  const nn::PoolingInput input{x.at(0), x.size() == 1 ? at::Tensor() : x.at(1)};
  return {module->associate(input, masks).output,
          [=]() mutable { return module->get_association_matrix(input, masks); },
          [=]() mutable { return module->get_projected_pattern_matrix(input); }};
}

Call call(nn::HopfieldLayer& module, const std::vector<at::Tensor>& x, const Masks& masks) {
  const auto state = x.at(0);
  return {module->associate(state, masks).output,
          [=]() mutable { return module->get_association_matrix(state, masks); },
          [=]() mutable { return module->get_projected_pattern_matrix(state); }};
}

template <typename Module>
Errors replay_with(Module module, const GoldenCase& golden) {
  load_parameters(module, golden);
  std::vector<at::Tensor> inputs;
  for (const auto& input : golden.inputs) inputs.push_back(input.detach().clone().set_requires_grad(true));
  const auto ours = call(module, inputs, golden.masks);

  Errors errors;
  errors.emplace_back("output", largest_error(ours.output, golden.output));
  if (golden.association_matrix.defined()) {
    errors.emplace_back("association matrix", largest_error(ours.association_matrix(), golden.association_matrix));
  }
  if (golden.projected_pattern_matrix.defined()) {
    errors.emplace_back("projected patterns",
                        largest_error(ours.projected_pattern_matrix(), golden.projected_pattern_matrix));
  }
  if (ours.output.sizes() != golden.output.sizes()) return errors;
  (ours.output * golden.output_weight).sum().backward();
  for (size_t i = 0; i < golden.grad_inputs.size(); ++i) {
    errors.emplace_back("grad inputs[" + std::to_string(i) + "]",
                        largest_error(inputs.at(i).grad(), golden.grad_inputs[i]));
  }
  const auto parameters = module->named_parameters();
  for (const auto& [name, gradient] : golden.grad_parameters) {
    errors.emplace_back("grad " + name, largest_error(parameters[name].grad(), gradient));
  }
  for (const auto& parameter : parameters) {
    const bool expected = golden.grad_parameters.count(parameter.key()) > 0;
    if (!expected && parameter->grad().defined())
      errors.emplace_back("grad " + parameter.key(), largest_error(parameter->grad(), {}));
  }
  return errors;
}

}  // namespace

GoldenCase read_golden_case(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  TORCH_CHECK(stream, "expected a readable file, got ", file.string());
  const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
  const auto value = torch::pickle_load(bytes);
  TORCH_CHECK(value.isGenericDict(), "expected a dict in ", file.string(), ", got ", value.tagKind());
  const auto dict = value.toGenericDict();
  const std::function<at::Tensor(const c10::IValue&)> to_tensor = tensor_or_none;
  const std::function<c10::IValue(const c10::IValue&)> keep = [](const c10::IValue& element) { return element; };

  GoldenCase golden;
  golden.name = member(dict, "name").toStringRef();
  golden.module = member(dict, "module").toStringRef();
  golden.config = string_map(member(dict, "config"), keep);
  golden.inputs = tensor_list(member(dict, "inputs"));
  auto masks = string_map(member(dict, "masks"), to_tensor);
  golden.masks.padding_mask = masks["stored_pattern_padding_mask"];
  golden.masks.association_mask = masks["association_mask"];
  golden.state_dict = string_map(member(dict, "state_dict"), to_tensor);
  golden.output = member(dict, "output").toTensor();
  golden.output_weight = member(dict, "output_weight").toTensor();
  golden.grad_inputs = tensor_list(member(dict, "grad_inputs"));
  golden.grad_parameters = string_map(member(dict, "grad_parameters"), to_tensor);
  golden.association_matrix = tensor_or_none(member(dict, "association_matrix"));
  golden.projected_pattern_matrix = tensor_or_none(member(dict, "projected_pattern_matrix"));
  return golden;
}

Errors replay(const GoldenCase& golden) {
  if (golden.module == "Hopfield") return replay_with(nn::Hopfield(options_of<nn::HopfieldOptions>(golden)), golden);
  if (golden.module == "HopfieldPooling") {
    return replay_with(nn::HopfieldPooling(options_of<nn::HopfieldPoolingOptions>(golden)), golden);
  }
  if (golden.module == "HopfieldLayer") {
    return replay_with(nn::HopfieldLayer(options_of<nn::HopfieldLayerOptions>(golden)), golden);
  }
  TORCH_CHECK(false, "expected module to be Hopfield, HopfieldPooling or HopfieldLayer, got ", golden.module);
}

}  // namespace hopfield::parity
