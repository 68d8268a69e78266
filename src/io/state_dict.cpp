#include "io/load_plan.h"
#include "io/safetensors_header.h"
#include <hopfield/io/state_dict.h>

#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>

#include <algorithm>

namespace hopfield::io {
namespace {

bool ends_with(const std::string& name, const std::string& suffix) {
  return name.size() >= suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
}

bool is_optional(const std::string& name, const LoadOptions& options) {
  const auto& suffixes = options.optional_suffixes();
  return std::any_of(suffixes.begin(), suffixes.end(), [&](const auto& suffix) { return ends_with(name, suffix); });
}

bool fits(const at::Tensor& target, const at::Tensor& value) {
  return value.defined() && value.sizes() == target.sizes() && (target.is_complex() || !value.is_complex());
}

std::string describe(const at::Tensor& tensor) {
  return tensor.defined() ? c10::str(tensor.sizes(), " of type ", tensor.scalar_type()) : std::string("undefined");
}

/// "2 missing ('a', 'b')", with at most eight names.
template <typename Describe>
void append_names(std::string& text, const char* what, const std::vector<std::string>& names,
                  const Describe& describe_name) {
  if (names.empty()) return;
  constexpr size_t kShown = 8;
  text += (text.empty() ? "" : ", ") + std::to_string(names.size()) + " " + what + " (";
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i == 0 ? "" : ", ") + describe_name(names[i]);
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  text += ")";
}

/// The name of a HopfieldLayer's stored patterns. set_patterns() can change their number.
const std::string kMemory = "lookup_weights";

std::string describe(const LoadReport& report, const TensorDict& current, const TensorDict& given) {
  std::string text;
  append_names(text, "missing", report.missing, detail::quote);
  append_names(text, "unexpected", report.unexpected, detail::quote);
  append_names(text, "mismatched", report.mismatched, [&](const std::string& name) {
    return detail::quote(name) + ": expected " + describe(current[name]) + ", got " + describe(given[name]);
  });
  const auto is_memory = [](const std::string& name) { return ends_with(name, kMemory); };
  const auto& names = report.mismatched;
  if (std::any_of(names.begin(), names.end(), is_memory)) {
    text +=
        "; a HopfieldLayer holds as many stored patterns as its option quantity says: set that to the number of the "
        "file's, or call set_patterns() with as many before loading";
  }
  return text;
}

constexpr const char* kNotStrict = "; to load only what matches, pass LoadOptions().strict(false)";

}  // namespace

namespace detail {

LoadPlan plan_load(const torch::nn::Module& module, const TensorDict& tensors, const LoadOptions& options) {
  LoadPlan plan;
  const auto current = state_dict(module);
  for (const auto& item : current) {
    const auto& [name, target] = item.pair();
    const auto* value = tensors.find(name);
    if (value == nullptr) {
      if (!is_optional(name, options)) plan.report.missing.push_back(name);
    } else if (!fits(target, *value)) {
      plan.report.mismatched.push_back(name);
    } else {
      TORCH_CHECK(at::has_internal_overlap(target) != at::MemOverlap::Yes, "hopfield::io: expected ", quote(name),
                  " of the module to have memory for each element, got an expanded tensor");
      plan.copies.emplace_back(target, value->detach().to(target.device(), target.scalar_type()));
    }
  }
  for (const auto& item : tensors) {
    if (!current.contains(item.key())) plan.report.unexpected.push_back(item.key());
  }
  plan.problem = describe(plan.report, current, tensors);
  return plan;
}

void apply(const LoadPlan& plan) {
  const at::NoGradGuard no_grad;
  for (const auto& [target, value] : plan.copies) target.copy_(value);
}

}  // namespace detail

TensorDict state_dict(const torch::nn::Module& module) {
  TensorDict tensors;
  for (const auto& item : module.named_parameters()) tensors.insert(item.key(), item.value().detach());
  for (const auto& item : module.named_buffers()) tensors.insert(item.key(), item.value().detach());
  return tensors;
}

LoadReport load_state_dict(torch::nn::Module& module, const TensorDict& tensors, const LoadOptions& options) {
  const auto plan = detail::plan_load(module, tensors, options);
  TORCH_CHECK(plan.problem.empty() || !options.strict(),
              "hopfield::io::load_state_dict: expected the tensors to match the module, got ", plan.problem,
              kNotStrict);
  detail::apply(plan);
  return plan.report;
}

void save_module(const std::string& path, const torch::nn::Module& module, const Metadata& metadata) {
  save_safetensors(path, state_dict(module), metadata);
}

LoadReport load_module(const std::string& path, torch::nn::Module& module, const LoadOptions& options) {
  const auto plan = detail::plan_load(module, load_safetensors(path).tensors, options);
  TORCH_CHECK(plan.problem.empty() || !options.strict(), "hopfield::io::load_module: expected '", path,
              "' to match the module, got ", plan.problem, kNotStrict);
  detail::apply(plan);
  return plan.report;
}

}  // namespace hopfield::io
