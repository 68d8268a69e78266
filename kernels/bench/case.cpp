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

const std::map<std::string, at::ScalarType> kTypes{
    {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}};

std::vector<Case> parse_all(std::initializer_list<const char*> texts) {
  std::vector<Case> cases;
  for (const auto* text : texts) {
    for (const auto& one : parse_case(text)) cases.push_back(one);
  }
  return cases;
}

}  // namespace

std::string Case::name() const {
  std::string text = kind;
  for (const auto size : sizes) text += "/" + std::to_string(size);
  text += train ? "/train" : "/fwd";
  for (const auto& [name, type] : kTypes) {
    if (type == dtype) text += "/" + name;
  }
  return text;
}

std::optional<at::ScalarType> parse_type(const std::string& text) {
  const auto found = kTypes.find(text);
  return found == kTypes.end() ? std::nullopt : std::optional(found->second);
}

std::vector<Case> parse_case(const std::string& text, at::ScalarType type) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, '/');) parts.push_back(part);
  if (parts.empty() || kKinds.count(parts[0]) == 0) return {};
  const auto count = kKinds.at(parts[0]).sizes;
  if (parts.size() < 1 + count || parts.size() > 3 + count) return {};
  Case c;
  c.kind = parts[0];
  c.dtype = type;
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
    const auto named = parse_type(parts[2 + count]);
    if (!named) return {};
    c.dtype = *named;
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
  return parse_all({"pooling/1/100000/256/8/32/1/3", "layer/64/64/512/1024/8/64/3", "self/8/512/512/8/64/3",
                    "ragged/128/200/256/8/32/1/3", "self/256/16/256/8/32/3"});
}

std::vector<Case> default_gpu_cases() {
  // The first ones tell most: a run may be cut short.
  return parse_all({"pooling/1/1000000/256/8/32/1/0/fwd/bfloat16", "pooling/1/1000000/256/8/32/1/3/fwd/bfloat16",
                    "pooling/128/2000/256/8/32/1/0/fwd/bfloat16", "pooling/128/2000/256/8/32/1/3/fwd/bfloat16",
                    "ragged/1000/2000/256/8/32/1/3/fwd/bfloat16", "pooling/1/1000000/256/8/32/1/0/train/bfloat16",
                    "pooling/1/1000000/256/8/32/1/3/train/bfloat16", "pooling/128/2000/256/8/32/1/0/train/bfloat16",
                    "pooling/128/2000/256/8/32/1/3/train/bfloat16", "ragged/1000/2000/256/8/32/1/3/train/bfloat16",
                    "pooling/1/1000000/256/8/32/1/0/fwd/float32", "pooling/1/1000000/256/8/32/1/3/fwd/float32",
                    "pooling/1/1000000/256/8/32/1/0/train/float32", "pooling/1/1000000/256/8/32/1/3/train/float32"});
}

}  // namespace hopfield::bench
