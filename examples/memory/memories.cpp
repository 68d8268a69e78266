#include "memories.h"

#include "common/text.h"
#include <hopfield/memory/binary.h>
#include <hopfield/memory/continuous.h>
#include <hopfield/memory/exponential.h>
#include <hopfield/memory/graded.h>
#include <hopfield/memory/kernel.h>
#include <hopfield/memory/polynomial.h>

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <algorithm>

namespace hopfield::image_memory {
namespace {

int64_t position_of(const std::string& name, const std::vector<std::string>& names) {
  return std::find(names.begin(), names.end(), name) - names.begin();
}

/// The radius within which patterns act on states. Nothing if all patterns are the same.
std::optional<double> kernel_radius(const at::Tensor& patterns) {
  constexpr int64_t kSample = 256;  // enough for a median
  const auto step = std::max<int64_t>(1, patterns.size(0) / kSample);
  const auto distances = at::cdist(patterns.slice(0, 0, c10::nullopt, step), patterns);
  const auto nearest = distances.masked_fill(distances == 0, std::numeric_limits<double>::infinity()).amin(1);
  const auto others = nearest.masked_select(at::isfinite(nearest));
  if (others.numel() == 0) return std::nullopt;
  return 0.8 * others.median().item<double>();
}

}  // namespace

const std::vector<std::string>& memory_kinds() {
  static const std::vector<std::string> kinds{"binary", "graded", "polynomial", "exponential", "continuous", "kernel"};
  return kinds;
}

const std::vector<std::string>& rule_names() {
  static const std::vector<std::string> names{"hebb", "storkey", "pseudo-inverse"};  // as in memory::LearningRule
  return names;
}

const std::vector<std::string>& similarity_names() {
  static const std::vector<std::string> names{"dot", "cosine", "euclidean"};  // as in memory::Similarity
  return names;
}

void check_kind(const MemoryOptions& o) {
  const auto check = [&](const char* option, bool is_set, const std::vector<std::string>& kinds) {
    if (!is_set || std::find(kinds.begin(), kinds.end(), o.kind) != kinds.end()) return;
    throw UsageError{fmt::format("{}: expected it with --memory {} only, got it with {}", option,
                                 kinds.size() == 1 ? kinds[0] : kinds[0] + " or " + kinds[1], o.kind)};
  };
  check("--rule", o.rule.has_value(), {"binary"});
  check("--order", o.order.has_value(), {"polynomial"});
  check("--similarity", o.similarity.has_value(), {"continuous"});
  check("--beta", o.beta.has_value(), {"continuous", "kernel"});
  check("--gain", o.gain.has_value(), {"graded"});
}

bool is_black_and_white(const std::string& kind) { return kind != "continuous" && kind != "kernel"; }
bool has_weights(const std::string& kind) { return kind == "binary" || kind == "graded"; }

MemoryOptions completed(MemoryOptions o, const at::Tensor& patterns) {
  const auto width = static_cast<double>(patterns.size(1));
  if (o.kind == "binary" && !o.rule) o.rule = "hebb";
  if (o.kind == "polynomial" && !o.order) o.order = kDefaultOrder;
  if (o.kind == "graded" && !o.gain) o.gain = 10.0;
  if (o.kind == "continuous") {
    if (!o.similarity) o.similarity = "euclidean";
    if (!o.beta) o.beta = *o.similarity == "cosine" ? 4096.0 : 16384.0 / width;
  }
  if (o.kind == "kernel" && !o.beta) {
    const auto radius = kernel_radius(patterns);
    o.beta = radius ? 2.0 / (*radius * *radius) : 4.0 / width;
  }
  return o;
}

std::unique_ptr<memory::Memory> make_memory(const MemoryOptions& o, const at::Tensor& patterns) {
  if (o.kind == "binary") {
    const auto rule = static_cast<memory::LearningRule>(position_of(*o.rule, rule_names()));
    return std::make_unique<memory::BinaryNetwork>(patterns, memory::BinaryOptions().rule(rule));
  }
  if (o.kind == "graded") {
    return std::make_unique<memory::GradedNetwork>(patterns, memory::GradedOptions().gain(*o.gain));
  }
  if (o.kind == "polynomial") {
    return std::make_unique<memory::PolynomialMemory>(patterns, memory::PolynomialOptions().degree(*o.order));
  }
  if (o.kind == "exponential") return std::make_unique<memory::ExponentialMemory>(patterns);
  if (o.kind == "kernel") {
    return std::make_unique<memory::KernelMemory>(patterns, memory::KernelOptions().beta(*o.beta));
  }
  const auto similarity = static_cast<memory::Similarity>(position_of(*o.similarity, similarity_names()));
  return std::make_unique<memory::ContinuousMemory>(patterns,
                                                    memory::ContinuousOptions().beta(*o.beta).similarity(similarity));
}

std::string text_of(const MemoryOptions& o) {
  std::vector<std::string> parts;
  if (o.rule) parts.push_back("rule " + *o.rule);
  if (o.order) parts.push_back(fmt::format("order {}", *o.order));
  if (o.similarity) parts.push_back("similarity " + *o.similarity);
  if (o.beta) parts.push_back(fmt::format("beta {:.4g}", *o.beta));
  if (o.gain) parts.push_back(fmt::format("gain {:.4g}", *o.gain));
  return o.kind + (parts.empty() ? "" : " (" + examples::joined(parts) + ")");
}

}  // namespace hopfield::image_memory
