#include "kernels/bench/case.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

namespace hopfield::bench {
namespace {

struct Kind {
  size_t sizes;                 // the number of sizes in the name of a case
  std::vector<size_t> of_data;  // positions of those sizes that belong to the data and not to the layer
};

const std::map<std::string, Kind> kKinds{{"pooling", {7, {0, 1}}},     {"ragged", {7, {0, 1}}},
                                         {"layer", {7, {0, 1, 3}}},    {"self", {6, {0, 1}}},
                                         {"retrieve", {6, {0, 2, 3}}}, {"shared", {6, {0, 2, 3}}}};

const std::map<std::string, at::ScalarType> kTypes{
    {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}};

std::string name_of(at::ScalarType type) {
  for (const auto& [name, known] : kTypes) {
    if (known == type) return name;
  }
  return c10::toString(type);
}

}  // namespace

std::string Case::name() const {
  std::string text = kind;
  for (const auto size : sizes) text += "/" + std::to_string(size);
  return text + (train ? "/train/" : "/fwd/") + name_of(dtype) + (precision.empty() ? "" : "/" + precision);
}

double Case::operations() const {
  if (!is_op()) return 0;
  double product = 2;  // one multiplication and one addition
  for (const size_t i : {0, 1, 2, 3, 4}) product *= static_cast<double>(sizes[i]);
  return (train ? 7 : 2) * product * static_cast<double>(steps() + 1);
}

std::vector<Case> parse_case(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, '/');) parts.push_back(part);
  if (parts.empty() || kKinds.count(parts[0]) == 0) return {};
  const auto count = kKinds.at(parts[0]).sizes;
  if (parts.size() < 1 + count || parts.size() > 4 + count) return {};
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
    if (kTypes.count(parts[2 + count]) == 0) return {};
    c.dtype = kTypes.at(parts[2 + count]);
  }
  if (parts.size() > 3 + count) {
    c.precision = parts[3 + count];
    if (c.dtype != at::kFloat || (c.precision != "highest" && c.precision != "high")) return {};
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

namespace {

Case scaled_op(Case which, double scale) {
  constexpr double kLeastBatch = 2, kLeastRows = 64;
  const auto scale_size = [&](size_t i, double factor, double least) {
    auto& size = which.sizes[i];
    size = std::min<int64_t>(size, std::llround(std::max(least, static_cast<double>(size) * factor)));
  };
  const auto rest = std::min(1.0, static_cast<double>(which.sizes[0]) * scale / kLeastBatch);
  scale_size(0, scale, kLeastBatch);
  for (const size_t i : {2, 3}) scale_size(i, std::sqrt(rest), kLeastRows);
  return which;
}

}  // namespace

Case scaled(Case which, double scale) {
  if (which.is_op()) return scaled_op(std::move(which), scale);
  const bool bags = which.kind == "pooling" || which.kind == "ragged";
  const bool one = bags && which.sizes[0] == 1;
  auto& size = which.sizes[one ? 1 : 0];
  const int64_t least = one ? 16 : 2;  // at least two bags, or a bag of at least 16 instances
  size = std::min(size, std::max(least, static_cast<int64_t>(std::llround(static_cast<double>(size) * scale))));
  return which;
}

Case shortened(Case which) {
  constexpr int64_t kFewDense = 4, kFewRagged = 16;
  // The GPU streams bags of this size. They have more parts than are merged at once, and their last part is not full.
  constexpr int64_t kLong = 50'000;
  // Association matrices of this size fit into memory in float64. The last tile of rows is not full.
  constexpr int64_t kRows = 1100;
  const bool ragged = which.kind == "ragged";
  which.sizes[0] = std::min(which.sizes[0], ragged ? kFewRagged : kFewDense);
  if (ragged || which.kind == "pooling") which.sizes[1] = std::min(which.sizes[1], kLong);
  if (which.is_op()) {
    for (const size_t i : {2, 3}) which.sizes[i] = std::min(which.sizes[i], kRows);
  }
  return which;
}

namespace {

std::vector<Case> parse_all(const std::vector<const char*>& names) {
  std::vector<Case> cases;
  for (const auto* name : names) {
    for (const auto& one : parse_case(name)) cases.push_back(one);
  }
  return cases;
}

}  // namespace

std::vector<Case> default_cases() {
  return parse_all({"pooling/1/100000/256/8/32/1/3", "layer/64/64/512/1024/8/64/3", "self/8/512/512/8/64/3",
                    "ragged/128/200/256/8/32/1/3", "self/256/16/256/8/32/3"});
}

std::vector<Case> default_device_cases() {
  return parse_all({
      "pooling/1/1000000/256/8/32/1/3/fwd/bfloat16",
      "pooling/1/1000000/256/8/32/1/0/fwd/bfloat16",
      "pooling/1/1000000/256/8/32/1/3/train/bfloat16",
      "pooling/128/2000/256/8/32/1/0/fwd/bfloat16",
      "pooling/128/2000/256/8/32/1/3/fwd/bfloat16",
      "ragged/1000/2000/256/8/32/1/3/fwd/bfloat16",
      "retrieve/32/8/512/512/64/3/fwd/bfloat16",
      "retrieve/32/8/512/512/64/3/train/bfloat16",
      "retrieve/4/16/4096/4096/128/3/fwd/bfloat16",
      "retrieve/4/16/4096/4096/128/3/train/bfloat16",
      "shared/128/8/512/1024/64/3/fwd/bfloat16",
      "retrieve/8/4/32/32/64/3/fwd/bfloat16",
      "retrieve/32/8/512/512/64/3/fwd/float32/high",
      "pooling/1/1000000/256/8/32/1/3/fwd/float32/highest",
      "pooling/1/1000000/256/8/32/1/3/fwd/float32/high",
      "pooling/1/1000000/512/8/64/1/1/fwd/bfloat16",
      "pooling/1/10000/1024/8/128/1/3/fwd/bfloat16",
  });
}

}  // namespace hopfield::bench
