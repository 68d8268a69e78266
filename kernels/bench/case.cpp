#include "kernels/bench/case.h"

#include <algorithm>
#include <map>
#include <sstream>

namespace hopfield::bench {
namespace {

struct Kind {
  size_t sizes;                 // how many
  std::vector<size_t> of_data;  // those that do not change the layer
};

const std::map<std::string, Kind> kKinds{{"pooling", {7, {0, 1}}},
                                         {"ragged", {7, {0, 1}}},
                                         {"layer", {7, {0, 1, 3}}},
                                         {"self", {6, {0, 1}}},
                                         {"retrieve", {6, {0, 2, 3}}}};

}  // namespace

std::string Case::name() const {
  std::string text = kind;
  for (const auto size : sizes) text += "/" + std::to_string(size);
  return text + (train ? "/train" : "/fwd") + (dtype == at::kFloat ? "/float32" : "/bfloat16");
}

std::vector<Case> parse_case(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, '/');) parts.push_back(part);
  if (parts.empty() || kKinds.count(parts[0]) == 0) return {};
  const auto count = kKinds.at(parts[0]).sizes;
  if (parts.size() < 1 + count || parts.size() > 3 + count) return {};
  Case c;
  c.kind = parts[0];
  for (size_t i = 1; i <= count; ++i) {
    const auto& part = parts[i];
    const bool number = !part.empty() && part.size() < 12 && part.find_first_not_of("0123456789") == std::string::npos;
    if (!number) return {};
    c.sizes.push_back(std::stoll(part));
  }
  std::vector<bool> trains{false, true};
  if (parts.size() > 1 + count) {
    if (parts[1 + count] != "fwd" && parts[1 + count] != "train") return {};
    trains = {parts[1 + count] == "train"};
  }
  if (parts.size() > 2 + count) {
    if (parts[2 + count] != "float32" && parts[2 + count] != "bfloat16") return {};
    c.dtype = parts[2 + count] == "float32" ? at::kFloat : at::kBFloat16;
  }
  std::vector<Case> cases;
  for (const bool train : trains) {
    c.train = train;
    cases.push_back(c);
  }
  return cases;
}

Case small(Case which) {
  constexpr int64_t kLittle = 16;
  for (const auto i : kKinds.at(which.kind).of_data) which.sizes[i] = std::min(which.sizes[i], kLittle);
  return which;
}

std::vector<Case> default_cases() {
  std::vector<Case> cases;
  for (const auto* text : {"pooling/1/100000/256/8/32/1/3", "layer/64/64/512/1024/8/64/3", "self/8/512/512/8/64/3",
                           "ragged/128/200/256/8/32/1/3", "self/256/16/256/8/32/3"}) {
    for (const auto& one : parse_case(text)) cases.push_back(one);
  }
  return cases;
}

}  // namespace hopfield::bench
