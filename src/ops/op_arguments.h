#pragma once

#include <hopfield/ops/retrieve.h>

#include <optional>

namespace hopfield::detail {

using OptionalTensor = std::optional<at::Tensor>;

/// An undefined tensor is one that is not given, and the other way round.
OptionalTensor given(const at::Tensor& tensor);
at::Tensor or_undefined(const OptionalTensor& tensor);

/// The masks that the dispatcher's ops share, as they stand in their schemas.
constexpr auto kMasksSchema =
    "Tensor? padding_mask=None, Tensor? association_mask=None, Tensor? key_bias=None, bool is_causal=False";

/// The settings that the dispatcher's ops share, as they stand in their schemas. Further ones stand behind them, and
/// last, for recorded calls, `seed`: the dropout mask's, one int64 number, in place of one that the generator draws.
constexpr auto kSettingsSchema =
    "Tensor? beta=None, int[1] update_steps_max=0, float[1] update_steps_eps=0.0001, int update_steps_cap=256, "
    "str stop_rule=\"per_query\", str gradient=\"unrolled\", int gradient_steps=1, str backend=\"automatic\", "
    "float dropout=0., Generator? generator=None";

/// The same in the dispatcher's types and in the same order. Refers to what it was made from, and must not outlive it.
struct OpSettings {
  OptionalTensor beta;
  at::IntArrayRef update_steps_max;
  at::ArrayRef<double> update_steps_eps;
  int64_t update_steps_cap;
  c10::string_view stop_rule;
  c10::string_view gradient;
  int64_t gradient_steps;
  c10::string_view backend;
  double dropout;
  std::optional<at::Generator> generator;
};

OpSettings write_settings(const RetrieveSettings& settings);

/// @throws c10::Error, whose message `function` begins, for names that mean nothing.
RetrieveSettings read_settings(const char* function, const OpSettings& settings);

/// The seed of the call's dropout mask: the one that is given, or one that is drawn; 0 without dropout.
uint64_t dropout_seed(const char* function, const RetrieveSettings& settings, const OptionalTensor& given);

/// Numbers on the CPU, on the device of the patterns without waiting for it. Those on a device are left there.
at::Tensor beta_on(c10::Device device, const at::Tensor& beta);

/// Offsets of the CPU, whose values have been checked, likewise; undefined ones stay so.
at::Tensor offsets_on(c10::Device device, const at::Tensor& offsets);

}  // namespace hopfield::detail
