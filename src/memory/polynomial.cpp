#include "memory/dense.h"
#include "memory/file.h"
#include <hopfield/memory/polynomial.h>

#include <ATen/ATen.h>

#include <cmath>

namespace hopfield::memory {
namespace {

// Up to here, all differences of powers are normal numbers for d up to 50,000.
constexpr int64_t kLargestDegree = 64;
constexpr const char* kBools[] = {"false", "true"};

}  // namespace

PolynomialMemory::PolynomialMemory(const PolynomialOptions& options) : settings_(options.settings()) {
  TORCH_CHECK(settings_.degree >= 2 && settings_.degree <= kLargestDegree, prefix(), "expected a degree from 2 to ",
              kLargestDegree, ", got ", settings_.degree, "; ExponentialMemory is what higher degrees come close to");
}

PolynomialMemory::PolynomialMemory(const at::Tensor& patterns, const PolynomialOptions& options)
    : PolynomialMemory(options) {
  adopt(patterns);
}

Recall PolynomialMemory::recall(const at::Tensor& queries, const RecallSettings& settings) const {
  detail::check_sweeps(settings, prefix());
  const auto interaction = detail::Interaction::polynomial(queries.size(1), settings_.degree, settings_.rectified);
  return detail::recall_dense(interaction, patterns(), queries, settings);
}

at::Tensor PolynomialMemory::energy_of(const at::Tensor& states) const {
  const auto interaction = detail::Interaction::polynomial(states.size(1), settings_.degree, settings_.rectified);
  return detail::energies_dense(interaction, patterns(), states);
}

void PolynomialMemory::write(io::SafetensorsFile& file) const {
  file.metadata["degree"] = std::to_string(settings_.degree);
  file.metadata["rectified"] = kBools[settings_.rectified ? 1 : 0];
}

std::unique_ptr<Memory> PolynomialMemory::read(const detail::MemoryFile& file) {
  const auto degree = file.number("degree");
  TORCH_CHECK(degree == std::floor(degree) && std::abs(degree) <= static_cast<double>(kLargestDegree),
              "hopfield::memory::load: expected 'degree' in the metadata of ", file.path,
              " to be an integer from 2 to ", kLargestDegree, ", got '", file.text("degree"), "'");
  PolynomialOptions options;
  options.degree(static_cast<int64_t>(degree)).rectified(file.choice("rectified", kBools) == 1);
  auto memory = std::make_unique<PolynomialMemory>(options);
  memory->restore(file.tensor("patterns", 2));
  return memory;
}

}  // namespace hopfield::memory
