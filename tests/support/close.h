#pragma once

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <string>

namespace hopfield::testing {

/// Results in float32 against those in float64: the same shape, finite in the same places, and there equal up to a
/// thousandth of the largest number: several updates, and two derivatives, have multiplied roundings by then, and an
/// option that is lost changes more. An undefined `reference` asks for nothing.
inline void expect_close(const at::Tensor& found, const at::Tensor& reference, const std::string& name) {
  if (!reference.defined()) return;
  ASSERT_TRUE(found.defined()) << name;
  ASSERT_EQ(found.sizes(), reference.sizes()) << name;
  if (reference.numel() == 0) return;
  const auto a = found.detach().to(at::kCPU, at::kDouble), b = reference.detach().to(at::kCPU, at::kDouble);
  ASSERT_TRUE(at::isfinite(a).equal(at::isfinite(b))) << name << "\n" << a << b;
  const auto finite = [](const at::Tensor& x) { return at::nan_to_num(x, 0.0, 0.0, 0.0); };
  const auto largest = finite(b).abs().max().item<double>();
  EXPECT_LT((finite(a) - finite(b)).abs().max().item<double>(), 1e-3 * largest + 2e-5)
      << name << ", whose largest number is " << largest;
}

}  // namespace hopfield::testing
