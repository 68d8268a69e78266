#include "io/optimizer_state.h"

#include "io/safetensors_header.h"

#include <ATen/ATen.h>
#include <c10/util/Type.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <nlohmann/json.hpp>

#include <memory>
#include <typeinfo>
#include <unordered_map>
#include <utility>
#include <vector>

namespace hopfield::io::detail {
namespace {

using nlohmann::json;

/// The names of the options and of a parameter's state in Adam and AdamW. Reading and writing both go through them.
template <typename OptimizerType, typename OptionsType, typename StateType>
struct AdamKind {
  using Optimizer = OptimizerType;
  using Options = OptionsType;
  using State = StateType;
  const char* name;

  template <typename MaybeConstOptions, typename Visit>
  static void each_option(MaybeConstOptions& options, const Visit& visit) {
    visit("lr", options.lr());
    visit("betas", options.betas());
    visit("eps", options.eps());
    visit("weight_decay", options.weight_decay());
    visit("amsgrad", options.amsgrad());
  }

  template <typename MaybeConstState, typename Visit>
  static void each_field(const Options& options, MaybeConstState& state, const Visit& visit) {
    visit("step", state.step());
    visit("exp_avg", state.exp_avg());
    visit("exp_avg_sq", state.exp_avg_sq());
    if (options.amsgrad()) visit("max_exp_avg_sq", state.max_exp_avg_sq());
  }
};

struct SgdKind {
  using Optimizer = torch::optim::SGD;
  using Options = torch::optim::SGDOptions;
  using State = torch::optim::SGDParamState;
  const char* name;

  template <typename MaybeConstOptions, typename Visit>
  static void each_option(MaybeConstOptions& options, const Visit& visit) {
    visit("lr", options.lr());
    visit("momentum", options.momentum());
    visit("dampening", options.dampening());
    visit("weight_decay", options.weight_decay());
    visit("nesterov", options.nesterov());
  }

  template <typename MaybeConstState, typename Visit>
  static void each_field(const Options&, MaybeConstState& state, const Visit& visit) {
    visit("momentum_buffer", state.momentum_buffer());
  }
};

/// Calls `visit` with the kind of an optimizer. Derived classes are refused, because they may have more state.
template <typename Visit>
auto with_kind(const torch::optim::Optimizer& optimizer, const std::string& where, const Visit& visit) {
  using namespace torch::optim;
  const auto& type = typeid(optimizer);
  if (type == typeid(Adam)) return visit(AdamKind<Adam, AdamOptions, AdamParamState>{"Adam"});
  if (type == typeid(AdamW)) return visit(AdamKind<AdamW, AdamWOptions, AdamWParamState>{"AdamW"});
  if (type == typeid(SGD)) return visit(SgdKind{"SGD"});
  TORCH_CHECK(false, where, "expected the optimizer to be torch::optim::Adam, AdamW or SGD, got ",
              c10::demangle(type.name()));
}

/// The module's names for an optimizer's parameters.
class ParameterNames {
 public:
  ParameterNames(const torch::nn::Module& module, const std::string& where) : where_(where) {
    for (const auto& item : module.named_parameters()) names_.emplace(item.value().unsafeGetTensorImpl(), item.key());
  }

  const std::string& operator[](const at::Tensor& parameter) const {
    const auto found = names_.find(parameter.unsafeGetTensorImpl());
    TORCH_CHECK(found != names_.end(), where_,
                "expected the optimizer to hold parameters of the module only, got one of shape ", parameter.sizes(),
                " that the module does not have");
    return found->second;
  }

 private:
  const std::string& where_;
  std::unordered_map<const void*, std::string> names_;
};

at::Tensor to_tensor(int64_t value) { return at::scalar_tensor(value, at::kLong); }
at::Tensor to_tensor(const at::Tensor& value) { return value.detach(); }

template <typename Kind>
OptimizerRecord record_kind(const Kind& kind, const torch::optim::Optimizer& optimizer, const ParameterNames& names) {
  OptimizerRecord record;
  json description{{"type", kind.name}, {"groups", json::array()}};
  for (const auto& group : optimizer.param_groups()) {
    const auto& options = static_cast<const typename Kind::Options&>(group.options());
    json described{{"parameters", json::object()}};
    Kind::each_option(options, [&](const char* name, const auto& value) { described[name] = value; });
    for (const auto& parameter : group.params()) {
      const auto& name = names[parameter];
      const auto found = optimizer.state().find(parameter.unsafeGetTensorImpl());
      const bool has_state = found != optimizer.state().end();
      described["parameters"][name] = has_state;
      if (!has_state) continue;
      Kind::each_field(
          options, static_cast<const typename Kind::State&>(*found->second),
          [&](const char* field, const auto& value) { record.tensors.insert(name + "." + field, to_tensor(value)); });
    }
    description["groups"].push_back(std::move(described));
  }
  // Names that are not UTF-8 are replaced here, and refused later as names of tensors.
  record.description = description.dump(-1, ' ', false, json::error_handler_t::replace);
  return record;
}

/// Reads the fields of the state of one parameter.
class StateReader {
 public:
  StateReader(const OptimizerRecord& record, const std::string& name, const at::Tensor& parameter,
              const std::string& where)
      : record_(record), name_(name), parameter_(parameter), where_(where) {}

  void operator()(const char* field, int64_t& value) const {
    const auto& tensor = find(field);
    TORCH_CHECK(tensor.dim() == 0 && tensor.scalar_type() == at::kLong && *tensor.const_data_ptr<int64_t>() >= 0,
                where_, "expected ", field, " of the optimizer for ", quote(name_),
                " to be a 64-bit integer that is not negative, got a tensor ", tensor.sizes(), " of type ",
                tensor.scalar_type());
    value = *tensor.const_data_ptr<int64_t>();
  }

  void operator()(const char* field, at::Tensor& value) const {
    const auto& tensor = find(field);
    TORCH_CHECK(tensor.sizes() == parameter_.sizes() && c10::canCast(tensor.scalar_type(), parameter_.scalar_type()),
                where_, "expected ", field, " of the optimizer for ", quote(name_), " to have the parameter's shape ",
                parameter_.sizes(), " and a type that converts to ", parameter_.scalar_type(), ", got ", tensor.sizes(),
                " of type ", tensor.scalar_type());
    value = tensor.to(parameter_.device(), parameter_.scalar_type());
  }

 private:
  const at::Tensor& find(const char* field) const {
    const auto* tensor = record_.tensors.find(name_ + "." + field);
    TORCH_CHECK(tensor != nullptr, where_, "expected ", field, " of the optimizer for ", quote(name_), ", got none");
    return *tensor;
  }

  const OptimizerRecord& record_;
  const std::string& name_;
  const at::Tensor& parameter_;
  const std::string& where_;
};

/// Options and states that are ready to be put into an optimizer of this kind.
template <typename Kind>
struct OptimizerContents {
  std::vector<typename Kind::Options> options;  ///< one for each group
  std::vector<std::pair<void*, std::unique_ptr<typename Kind::State>>> states;

  void move_to(torch::optim::Optimizer& optimizer) {
    for (size_t i = 0; i < options.size(); ++i) {
      // Assigned, not exchanged: callers keep references to a group's options.
      static_cast<typename Kind::Options&>(optimizer.param_groups()[i].options()) = options[i];
    }
    optimizer.state().clear();
    for (auto& [parameter, state] : states) optimizer.state()[parameter] = std::move(state);
  }
};

template <typename Kind>
typename Kind::Options read_options(const json& described, typename Kind::Options options, const std::string& where) {
  Kind::each_option(options, [&](const char* name, auto& value) { described.at(name).get_to(value); });
  try {
    // LibTorch's own checks of the values.
    typename Kind::Optimizer(std::vector<at::Tensor>{}, options);
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, where, "expected valid options of the optimizer, got: ", error.what_without_backtrace());
  }
  return options;
}

template <typename Kind>
OptimizerContents<Kind> read_contents(const Kind& kind, const torch::optim::Optimizer& optimizer,
                                      const ParameterNames& names, const OptimizerRecord& record,
                                      const std::string& where) {
  const auto description = json::parse(record.description);
  const auto& type = description.at("type").get_ref<const std::string&>();
  TORCH_CHECK(type == kind.name, where, "expected a checkpoint of the optimizer ", kind.name, ", got one of ",
              quote(type));
  const auto& groups = description.at("groups");
  const auto& current_groups = optimizer.param_groups();
  TORCH_CHECK(groups.size() == current_groups.size(), where, "expected a checkpoint of an optimizer with ",
              current_groups.size(), " parameter groups, got ", groups.size());
  OptimizerContents<Kind> contents;
  size_t fields = 0;
  for (size_t i = 0; i < current_groups.size(); ++i) {
    const auto& group = current_groups[i];
    const auto& described = groups.at(i);
    const auto& parameters = described.at("parameters");
    contents.options.push_back(
        read_options<Kind>(described, static_cast<const typename Kind::Options&>(group.options()), where));
    TORCH_CHECK(parameters.size() == group.params().size(), where, "expected parameter group ", i,
                " of the optimizer to hold ", group.params().size(), " parameters, got ", parameters.size());
    for (const auto& parameter : group.params()) {
      const auto& name = names[parameter];
      TORCH_CHECK(parameters.contains(name), where, "expected parameter group ", i, " of the optimizer to hold ",
                  quote(name), ", got a group without it");
      if (!parameters.at(name).template get<bool>()) continue;
      auto state = std::make_unique<typename Kind::State>();
      const StateReader read(record, name, parameter, where);
      Kind::each_field(contents.options.back(), *state, [&](const char* field, auto& value) {
        read(field, value);
        ++fields;
      });
      contents.states.emplace_back(parameter.unsafeGetTensorImpl(), std::move(state));
    }
  }
  TORCH_CHECK(fields == record.tensors.size(), where, "expected ", fields, " tensors of the optimizer, got ",
              record.tensors.size());
  return contents;
}

}  // namespace

OptimizerRecord record_optimizer(const torch::optim::Optimizer& optimizer, const torch::nn::Module& module,
                                 const std::string& where) {
  const ParameterNames names(module, where);
  return with_kind(optimizer, where, [&](const auto& kind) { return record_kind(kind, optimizer, names); });
}

std::function<void()> plan_optimizer(torch::optim::Optimizer& optimizer, const torch::nn::Module& module,
                                     const OptimizerRecord& record, const std::string& where) {
  const ParameterNames names(module, where);
  return with_kind(optimizer, where, [&](const auto& kind) -> std::function<void()> {
    try {
      auto contents = read_contents(kind, optimizer, names, record, where);
      auto shared = std::make_shared<decltype(contents)>(std::move(contents));
      return [&optimizer, shared] { shared->move_to(optimizer); };
    } catch (const json::exception& error) {
      TORCH_CHECK(false, where,
                  "expected a description of the optimizer as save_checkpoint writes it, got: ", error.what());
    }
  });
}

}  // namespace hopfield::io::detail
