#include "ops/option_names.h"
#include <hopfield/ops/iteration.h>

#include <sstream>

namespace hopfield {

const char* to_string(StopRule rule) { return rule == StopRule::per_query ? "per_query" : "per_head"; }

const char* to_string(Backend backend) {
  constexpr const char* kNames[] = {"automatic", "composite", "fused"};
  return kNames[static_cast<int>(backend)];
}

std::string to_string(const Gradient& gradient) {
  const std::string name = detail::name_of(gradient);
  return gradient.kind() == Gradient::Kind::last ? name + "(" + std::to_string(gradient.steps()) + ")" : name;
}

std::string to_string(const Separation& separation) {
  const std::string name = detail::name_of(separation);
  if (separation.kind() != Separation::Kind::entmax) return name;
  std::ostringstream alpha;
  alpha << separation.alpha();
  return name + "(" + alpha.str() + ")";
}

namespace detail {

const char* name_of(const Gradient& gradient) {
  constexpr const char* kNames[] = {"unrolled", "last", "implicit"};
  return kNames[static_cast<int>(gradient.kind())];
}

const char* name_of(const Separation& separation) {
  constexpr const char* kNames[] = {"softmax", "softmax1", "sparsemax", "entmax"};
  return kNames[static_cast<int>(separation.kind())];
}

}  // namespace detail

}  // namespace hopfield
