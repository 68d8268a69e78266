#pragma once

#include "ops/call_tensors.h"
#include "ops/option_names.h"
#include <hopfield/ops/pool.h>

#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace hopfield::detail {

/// What an op of the dispatcher is called with.
template <typename In>
struct OpArguments {
  In input;
  RetrieveSettings settings;
  at::Tensor seed;  ///< of the dropout mask, one int64 number; undefined: drawn. Recorded calls give it.
};

/// One argument of an op: how its schema declares it, and how its value gets out of the call and into it.
template <typename In>
struct OpArgument {
  std::string declaration;
  std::function<c10::IValue(const OpArguments<In>&)> write;
  /// @throws c10::Error for a value that has no meaning. The message begins with `op`.
  std::function<void(const char* op, const c10::IValue&, OpArguments<In>&)> read;
};

// Conversions to values of the dispatcher's types, and back.
c10::IValue to_value(const at::Tensor& tensor);
c10::IValue to_value(const at::Generator& generator);
c10::IValue to_value(const std::optional<double>& number);
c10::IValue to_value(const PerHead<int64_t>& values);
c10::IValue to_value(const PerHead<double>& values);
c10::IValue to_value(StopRule rule);
c10::IValue to_value(Backend backend);
c10::IValue to_value(Gradient::Kind kind);
c10::IValue to_value(Separation::Kind kind);
inline c10::IValue to_value(bool value) { return value; }
inline c10::IValue to_value(int64_t value) { return value; }
inline c10::IValue to_value(double value) { return value; }

void from_value(const char* op, const c10::IValue& value, at::Tensor& tensor);
void from_value(const char* op, const c10::IValue& value, at::Generator& generator);
void from_value(const char* op, const c10::IValue& value, std::optional<double>& number);
void from_value(const char* op, const c10::IValue& value, PerHead<int64_t>& values);
void from_value(const char* op, const c10::IValue& value, PerHead<double>& values);
void from_value(const char* op, const c10::IValue& value, StopRule& rule);
void from_value(const char* op, const c10::IValue& value, Backend& backend);
void from_value(const char* op, const c10::IValue& value, Gradient::Kind& kind);
void from_value(const char* op, const c10::IValue& value, Separation::Kind& kind);
inline void from_value(const char*, const c10::IValue& value, bool& flag) { flag = value.toBool(); }
inline void from_value(const char*, const c10::IValue& value, int64_t& number) { number = value.toInt(); }
inline void from_value(const char*, const c10::IValue& value, double& number) { number = value.toDouble(); }

/// An argument that is a member of the call. `member` returns a pointer to it.
template <typename In, typename Member>
OpArgument<In> argument(std::string declaration, Member member) {
  return {std::move(declaration),
          [member](const OpArguments<In>& call) { return to_value(*member(const_cast<OpArguments<In>&>(call))); },
          [member](const char* op, const c10::IValue& value, OpArguments<In>& call) {
            from_value(op, value, *member(call));
          }};
}

/// The masks that the ops share.
template <typename In>
std::vector<OpArgument<In>> mask_arguments() {
  using All = OpArguments<In>;
  return {argument<In>("Tensor? padding_mask=None", [](All& c) { return &c.input.masks.padding_mask; }),
          argument<In>("Tensor? association_mask=None", [](All& c) { return &c.input.masks.association_mask; }),
          argument<In>("Tensor? key_bias=None", [](All& c) { return &c.input.masks.key_bias; }),
          argument<In>("bool is_causal=False", [](All& c) { return &c.input.masks.is_causal; })};
}

/// The settings that the ops share: a new one needs a line here, a member and a chained setter.
template <typename In>
std::vector<OpArgument<In>> setting_arguments() {
  using All = OpArguments<In>;
  return {
      argument<In>("Tensor? beta=None", [](All& c) { return &c.settings.beta; }),
      argument<In>("int[1] update_steps_max=0", [](All& c) { return &c.settings.update_steps_max; }),
      argument<In>("float[1] update_steps_eps=0.0001", [](All& c) { return &c.settings.update_steps_eps; }),
      argument<In>("int update_steps_cap=256", [](All& c) { return &c.settings.update_steps_cap; }),
      argument<In>("str stop_rule=\"per_query\"", [](All& c) { return &c.settings.stop_rule; }),
      // A gradient mode and a separation are a kind and a number each, in two arguments.
      {"str gradient=\"unrolled\"", [](const All& c) { return to_value(c.settings.gradient.kind()); },
       [](const char* op, const c10::IValue& value, All& c) {
         auto kind = Gradient::Kind::unrolled;
         from_value(op, value, kind);
         c.settings.gradient = detail::gradient_of(kind, c.settings.gradient.steps());
       }},
      {"int gradient_steps=1", [](const All& c) { return c10::IValue(c.settings.gradient.steps()); },
       [](const char*, const c10::IValue& value, All& c) {
         c.settings.gradient = detail::gradient_of(c.settings.gradient.kind(), value.toInt());
       }},
      {"str separation=\"softmax\"", [](const All& c) { return to_value(c.settings.separation.kind()); },
       [](const char* op, const c10::IValue& value, All& c) {
         auto kind = Separation::Kind::softmax;
         from_value(op, value, kind);
         c.settings.separation = detail::separation_of(kind, c.settings.separation.alpha());
       }},
      {"float separation_alpha=1.5", [](const All& c) { return c10::IValue(c.settings.separation.alpha()); },
       [](const char*, const c10::IValue& value, All& c) {
         c.settings.separation = detail::separation_of(c.settings.separation.kind(), value.toDouble());
       }},
      argument<In>("str backend=\"automatic\"", [](All& c) { return &c.settings.backend; }),
      argument<In>("float dropout=0.", [](All& c) { return &c.settings.dropout; }),
      argument<In>("Generator? generator=None", [](All& c) { return &c.settings.generator; }),
  };
}

/// All arguments of an op in order: its patterns, the masks, arguments of its own, the settings, and what it is to
/// return besides.
template <typename In>
std::vector<OpArgument<In>> all_arguments(const std::vector<OpArgument<In>>& patterns,
                                          const std::vector<OpArgument<In>>& own,
                                          const std::vector<OpArgument<In>>& requests) {
  using All = OpArguments<In>;
  auto all = patterns;
  for (const auto& more : {mask_arguments<In>(), own, setting_arguments<In>(), requests}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  all.push_back(argument<In>("bool with_scores=False", [](All& c) { return &c.settings.with_scores; }));
  all.push_back(argument<In>("Tensor? seed=None", [](All& c) { return &c.seed; }));
  return all;
}

/// The arguments as they stand in a schema. The first `positional` of them may be given without their names.
template <typename In>
std::string declarations(const std::vector<OpArgument<In>>& arguments, size_t positional) {
  std::string all;
  for (size_t i = 0; i < arguments.size(); ++i) {
    all += (i > 0 ? ", " : "") + std::string(i == positional ? "*, " : "") + arguments[i].declaration;
  }
  return all;
}

/// The seed of the call's dropout mask: the one that is given, or one that is drawn; 0 without dropout.
uint64_t dropout_seed(const char* op, const RetrieveSettings& settings, const at::Tensor& given);

/// A copy on the given device of a beta that is on the CPU, made without waiting for the device. A beta on any other
/// device is returned as it is.
at::Tensor beta_on(c10::Device device, const at::Tensor& beta);

/// The same for offsets, whose values have been checked; undefined offsets stay undefined.
at::Tensor offsets_on(c10::Device device, const at::Tensor& offsets);

}  // namespace hopfield::detail
