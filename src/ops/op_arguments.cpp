#include "ops/op_arguments.h"

#include "ops/retrieve_internal.h"
#include "ops/transforms.h"

#include <ATen/ATen.h>

namespace hopfield::detail {
namespace {

StopRule parse_stop_rule(const char* function, c10::string_view name) {
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    if (name == to_string(rule)) return rule;
  }
  TORCH_CHECK(false, function, ": expected stop_rule to be per_query or per_head, got ", name);
}

Backend parse_backend(const char* function, c10::string_view name) {
  for (const auto backend : {Backend::automatic, Backend::composite, Backend::fused}) {
    if (name == to_string(backend)) return backend;
  }
  TORCH_CHECK(false, function, ": expected backend to be automatic, composite or fused, got ", name);
}

const char* gradient_name(const Gradient& gradient) {
  switch (gradient.kind()) {
    case Gradient::Kind::unrolled:
      return "unrolled";
    case Gradient::Kind::last:
      return "last";
    case Gradient::Kind::implicit:
      return "implicit";
  }
  return "unknown";
}

Gradient parse_gradient(const char* function, c10::string_view name, int64_t steps) {
  for (const auto& gradient : {Gradient::unrolled(), Gradient::last(steps), Gradient::implicit()}) {
    if (name == gradient_name(gradient)) return gradient;
  }
  TORCH_CHECK(false, function, ": expected gradient to be unrolled, last or implicit, got ", name);
}

}  // namespace

OptionalTensor given(const at::Tensor& tensor) { return tensor.defined() ? OptionalTensor(tensor) : OptionalTensor(); }

at::Tensor or_undefined(const OptionalTensor& tensor) { return tensor.value_or(at::Tensor()); }

OpSettings write_settings(const RetrieveSettings& settings) {
  const auto& s = settings;
  return {given(s.beta),
          s.update_steps_max.values(),
          s.update_steps_eps.values(),
          s.update_steps_cap,
          to_string(s.stop_rule),
          gradient_name(s.gradient),
          s.gradient.steps(),
          to_string(s.backend),
          s.dropout,
          s.generator.defined() ? std::optional<at::Generator>(s.generator) : std::nullopt};
}

RetrieveSettings read_settings(const char* function, const OpSettings& settings) {
  RetrieveSettings s;
  s.beta = or_undefined(settings.beta);
  s.update_steps_max = settings.update_steps_max.vec();
  s.update_steps_eps = settings.update_steps_eps.vec();
  s.update_steps_cap = settings.update_steps_cap;
  s.stop_rule = parse_stop_rule(function, settings.stop_rule);
  s.gradient = parse_gradient(function, settings.gradient, settings.gradient_steps);
  s.backend = parse_backend(function, settings.backend);
  s.dropout = settings.dropout;
  s.generator = settings.generator.value_or(at::Generator());
  return s;
}

uint64_t dropout_seed(const char* function, const RetrieveSettings& settings, const OptionalTensor& given) {
  if (settings.dropout == 0) return 0;
  TORCH_CHECK(!given || (given->numel() == 1 && given->scalar_type() == at::kLong), function,
              ": expected seed to be one int64 number, got ", given->sizes(), " of type ", given->scalar_type());
  return given ? static_cast<uint64_t>(given->item<int64_t>()) : draw_seed(settings.generator);
}

at::Tensor beta_on(c10::Device device, const at::Tensor& beta) {
  if (!beta.defined() || !beta.is_cpu() || device.is_cpu()) return beta;
  if (beta.requires_grad() || is_transformed(beta) || !has_values(beta))
    return beta.to(device);  // autograd brings the gradient back
  const auto values = beta.to(at::kDouble).contiguous();
  std::vector<at::Tensor> entries;
  for (int64_t i = 0; i < values.numel(); ++i) {
    entries.push_back(at::full({1}, values.data_ptr<double>()[i], beta.options().device(device)));
  }
  return entries.empty() ? beta.to(device) : at::cat(entries).view(beta.sizes());
}

at::Tensor offsets_on(c10::Device device, const at::Tensor& offsets) {
  if (!offsets.defined() || !offsets.is_cpu() || device.is_cpu()) return offsets;
  return offsets.to(at::kLong).contiguous().pin_memory().to(device, /*non_blocking=*/true);
}

}  // namespace hopfield::detail
