#include "ops/op_arguments.h"

#include "ops/retrieve_internal.h"
#include "ops/transforms.h"

#include <ATen/ATen.h>

#include <array>

namespace hopfield::detail {
namespace {

/// The choice of that name. `argument` and `choices` are what the error message says.
template <typename Choices, typename Name>
auto named(const char* op, const char* argument, const char* choices, const std::string& name, const Choices& all,
           const Name& name_of_choice) {
  for (const auto& choice : all) {
    if (name == name_of_choice(choice)) return choice;
  }
  TORCH_CHECK(false, op, ": expected ", argument, " to be ", choices, ", got ", name);
}

template <typename T>
const char* string_of(T choice) {
  return to_string(choice);
}

/// The name of one of `count` choices as a value of the dispatcher. Each name is made once: a new string for every call
/// would be a good part of the cost of a small call.
template <typename T, int count>
const c10::IValue& name_value(T choice) {
  static const auto values = [] {
    std::array<c10::IValue, count> all;
    for (int i = 0; i < count; ++i) all[static_cast<size_t>(i)] = to_string(static_cast<T>(i));
    return all;
  }();
  return values[static_cast<size_t>(choice)];
}

}  // namespace

c10::IValue to_value(const at::Tensor& tensor) { return tensor.defined() ? c10::IValue(tensor) : c10::IValue(); }
c10::IValue to_value(const at::Generator& generator) {
  return generator.defined() ? c10::IValue(generator) : c10::IValue();
}
c10::IValue to_value(const std::optional<double>& number) { return number; }
c10::IValue to_value(const PerHead<int64_t>& values) { return values.values(); }
c10::IValue to_value(const PerHead<double>& values) { return values.values(); }
c10::IValue to_value(StopRule rule) { return name_value<StopRule, 2>(rule); }
c10::IValue to_value(Backend backend) { return name_value<Backend, 3>(backend); }
c10::IValue to_value(Gradient::Kind kind) { return name_value<Gradient::Kind, 3>(kind); }
c10::IValue to_value(Separation::Kind kind) { return name_value<Separation::Kind, 4>(kind); }

void from_value(const char*, const c10::IValue& value, at::Tensor& tensor) {
  tensor = value.isNone() ? at::Tensor() : value.toTensor();
}
void from_value(const char*, const c10::IValue& value, at::Generator& generator) {
  generator = value.isNone() ? at::Generator() : value.toGenerator();
}
void from_value(const char*, const c10::IValue& value, std::optional<double>& number) {
  number = value.toOptional<double>();
}
void from_value(const char*, const c10::IValue& value, PerHead<int64_t>& values) { values = value.toIntVector(); }
void from_value(const char*, const c10::IValue& value, PerHead<double>& values) { values = value.toDoubleVector(); }
void from_value(const char* op, const c10::IValue& value, StopRule& rule) {
  rule = named(op, "stop_rule", "per_query or per_head", value.toStringRef(),
               std::array{StopRule::per_query, StopRule::per_head}, string_of<StopRule>);
}
void from_value(const char* op, const c10::IValue& value, Backend& backend) {
  backend = named(op, "backend", "automatic, composite or fused", value.toStringRef(),
                  std::array{Backend::automatic, Backend::composite, Backend::fused}, string_of<Backend>);
}

void from_value(const char* op, const c10::IValue& value, Gradient::Kind& kind) {
  using Kind = Gradient::Kind;
  kind = named(op, "gradient", "unrolled, last or implicit", value.toStringRef(),
               std::array{Kind::unrolled, Kind::last, Kind::implicit}, string_of<Kind>);
}

void from_value(const char* op, const c10::IValue& value, Separation::Kind& kind) {
  using Kind = Separation::Kind;
  kind = named(op, "separation", "softmax, softmax1, sparsemax or entmax", value.toStringRef(),
               std::array{Kind::softmax, Kind::softmax1, Kind::sparsemax, Kind::entmax}, string_of<Kind>);
}

uint64_t dropout_seed(const char* op, const RetrieveSettings& settings, const at::Tensor& given) {
  if (settings.dropout == 0) return 0;
  if (!given.defined()) return draw_seed(settings.generator);
  TORCH_CHECK(given.numel() == 1 && given.scalar_type() == at::kLong, op,
              ": expected seed to be one int64 number, got ", given.sizes(), " of type ", given.scalar_type());
  return static_cast<uint64_t>(given.item<int64_t>());
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
