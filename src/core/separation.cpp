#include <hopfield/core/separation.h>

#include <sstream>

namespace hopfield {

const char* to_string(Separation::Kind kind) {
  constexpr const char* kNames[] = {"softmax", "softmax1", "sparsemax", "entmax"};
  return kNames[static_cast<int>(kind)];
}

std::string to_string(const Separation& separation) {
  std::ostringstream name;
  name << to_string(separation.kind());
  if (separation.kind() == Separation::Kind::entmax) name << "(" << separation.alpha() << ")";
  return name.str();
}

}  // namespace hopfield
