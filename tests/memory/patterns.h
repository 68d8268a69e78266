#pragma once

#include "support/naive.h"
#include <hopfield/data/csv.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <fstream>

/// Patterns and cues for the tests of memories.
namespace memory_test {

inline at::Generator generator(uint64_t seed) { return at::detail::createCPUGenerator(seed); }

/// [n, d] of -1 and 1.
inline at::Tensor signs(int64_t n, int64_t d, uint64_t seed, at::ScalarType type = at::kDouble) {
  return at::randint(0, 2, {n, d}, generator(seed), at::TensorOptions().dtype(type)).mul_(2).sub_(1);
}

/// Rows of norm `norm`, of directions that are uniform on the sphere.
inline at::Tensor sphere(int64_t n, int64_t d, uint64_t seed, double norm = 1.0) {
  const auto rows = hopfield::testing::randn({n, d}, seed);
  return rows * (norm / rows.norm(2, -1, true));
}

/// The rows with each sign changed with this probability.
inline at::Tensor flipped(const at::Tensor& rows, double probability, uint64_t seed) {
  return at::where(at::rand(rows.sizes(), generator(seed), rows.options()) < probability, -rows, rows);
}

/// Each row with its features in another order.
inline at::Tensor shuffled(const at::Tensor& rows, uint64_t seed) {
  return rows.gather(1, at::rand(rows.sizes(), generator(seed), rows.options()).argsort(1, false));
}

inline at::Tensor all_close_rows(const at::Tensor& a, const at::Tensor& b, double tolerance) {
  return (a - b).abs().amax(-1) <= tolerance;
}

constexpr const char* kDigits = HOPFIELD_DATA_DIR "/digits.csv";
inline bool has_digits() { return static_cast<bool>(std::ifstream(kDigits)); }
/// 1,797 images of 8 x 8 pixels in [0, 1], float64.
inline at::Tensor digits() { return hopfield::data::read_table_csv(kDigits).features.to(at::kDouble) / 16; }

}  // namespace memory_test
