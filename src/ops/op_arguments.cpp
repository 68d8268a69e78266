#include "ops/op_arguments.h"

#include "ops/retrieve_internal.h"
#include "ops/transforms.h"

#include <ATen/ATen.h>

#include <array>

namespace hopfield::detail {
namespace {

/// The names of the choices of an option as values of the dispatcher. They are made once: new strings for every call
/// would be a good part of the cost of a small call.
template <typename T, int count>
const std::array<c10::IValue, count>& names() {
  static const auto all = [] {
    std::array<c10::IValue, count> values;
    for (int i = 0; i < count; ++i) values[static_cast<size_t>(i)] = to_string(static_cast<T>(i));
    return values;
  }();
  return all;
}

template <typename T, int count>
c10::IValue name_of(T choice) {
  return names<T, count>()[static_cast<size_t>(choice)];
}

/// The choice of that name. `argument` and `choices` are what the error message says.
template <typename T, int count>
T named(const char* op, const char* argument, const char* choices, const c10::IValue& name) {
  for (int i = 0; i < count; ++i) {
    if (name.toStringRef() == names<T, count>()[static_cast<size_t>(i)].toStringRef()) return static_cast<T>(i);
  }
  TORCH_CHECK(false, op, ": expected ", argument, " to be ", choices, ", got ", name.toStringRef());
}

}  // namespace

c10::IValue to_value(const at::Tensor& tensor) { return tensor.defined() ? c10::IValue(tensor) : c10::IValue(); }
c10::IValue to_value(const at::Generator& generator) {
  return generator.defined() ? c10::IValue(generator) : c10::IValue();
}
c10::IValue to_value(const std::optional<double>& number) { return number; }
c10::IValue to_value(const PerHead<int64_t>& values) { return values.values(); }
c10::IValue to_value(const PerHead<double>& values) { return values.values(); }
c10::IValue to_value(StopRule rule) { return name_of<StopRule, 2>(rule); }
c10::IValue to_value(Backend backend) { return name_of<Backend, 3>(backend); }
c10::IValue to_value(Gradient::Kind kind) { return name_of<Gradient::Kind, 3>(kind); }
c10::IValue to_value(Separation::Kind kind) { return name_of<Separation::Kind, 4>(kind); }

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
  rule = named<StopRule, 2>(op, "stop_rule", "per_query or per_head", value);
}
void from_value(const char* op, const c10::IValue& value, Backend& backend) {
  backend = named<Backend, 3>(op, "backend", "automatic, composite or fused", value);
}
void from_value(const char* op, const c10::IValue& value, Gradient::Kind& kind) {
  kind = named<Gradient::Kind, 3>(op, "gradient", "unrolled, last or implicit", value);
}
void from_value(const char* op, const c10::IValue& value, Separation::Kind& kind) {
  kind = named<Separation::Kind, 4>(op, "separation", "softmax, softmax1, sparsemax or entmax", value);
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
