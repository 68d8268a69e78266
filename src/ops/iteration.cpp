#include <hopfield/ops/iteration.h>

namespace hopfield {

const char* to_string(StopRule rule) { return rule == StopRule::per_query ? "per_query" : "per_head"; }

const char* to_string(Backend backend) {
  switch (backend) {
    case Backend::automatic:
      return "automatic";
    case Backend::composite:
      return "composite";
    case Backend::fused:
      return "fused";
  }
  return "unknown";
}

std::string to_string(const Gradient& gradient) {
  switch (gradient.kind()) {
    case Gradient::Kind::unrolled:
      return "unrolled";
    case Gradient::Kind::last:
      return "last(" + std::to_string(gradient.steps()) + ")";
    case Gradient::Kind::implicit:
      return "implicit";
  }
  return "unknown";
}

std::string to_string(const Separation& separation) {
  switch (separation.kind()) {
    case Separation::Kind::softmax:
      return "softmax";
    case Separation::Kind::softmax1:
      return "softmax1";
    case Separation::Kind::sparsemax:
      return "sparsemax";
    case Separation::Kind::entmax:
      return "entmax(" + std::to_string(separation.alpha()) + ")";
  }
  return "unknown";
}

}  // namespace hopfield
