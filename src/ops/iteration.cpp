#include "ops/option_names.h"
#include <hopfield/ops/iteration.h>

#include <string>

namespace hopfield {

const char* to_string(StopRule rule) { return rule == StopRule::per_query ? "per_query" : "per_head"; }

const char* to_string(Backend backend) {
  constexpr const char* kNames[] = {"automatic", "composite", "fused"};
  return kNames[static_cast<int>(backend)];
}

const char* to_string(Gradient::Kind kind) {
  constexpr const char* kNames[] = {"unrolled", "last", "implicit"};
  return kNames[static_cast<int>(kind)];
}

std::string to_string(const Gradient& gradient) {
  const std::string name = to_string(gradient.kind());
  return gradient.kind() == Gradient::Kind::last ? name + "(" + std::to_string(gradient.steps()) + ")" : name;
}

namespace detail {

Gradient gradient_of(Gradient::Kind kind, int64_t steps) {
  if (kind == Gradient::Kind::last) return Gradient::last(steps);
  return kind == Gradient::Kind::implicit ? Gradient::implicit() : Gradient::unrolled();
}

Separation separation_of(Separation::Kind kind, double alpha) {
  switch (kind) {
    case Separation::Kind::softmax1:
      return Separation::softmax1();
    case Separation::Kind::sparsemax:
      return Separation::sparsemax();
    case Separation::Kind::entmax:
      return Separation::entmax(alpha);
    default:
      return Separation::softmax();
  }
}

}  // namespace detail

}  // namespace hopfield
