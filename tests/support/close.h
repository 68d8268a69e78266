#pragma once

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <string>

namespace hopfield::testing {

/// Compares results in float32 with those in float64: they must have the same shape, be finite in the same places, and
/// be equal there up to a thousandth of the largest number. Several updates and two derivatives have multiplied
/// roundings by then, and an option that is lost changes more. An undefined `reference` asks for nothing.
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

/// Compares all results that retrieve(), pool() and the layers have in common.
template <typename Result>
void expect_close_results(const Result& found, const Result& reference) {
  ASSERT_TRUE(found.steps.cpu().equal(reference.steps.cpu())) << found.steps << reference.steps;
  // Without a threshold, whether two consecutive states are equal is a matter of rounding.
  const auto is_decided = reference.residual.cpu() > 1e-6;
  EXPECT_TRUE(found.converged.cpu().logical_and(is_decided).equal(reference.converged.cpu().logical_and(is_decided)));
  expect_close(found.output, reference.output, "output");
  expect_close(found.state, reference.state, "state");
  expect_close(found.logsumexp, reference.logsumexp, "logsumexp");
  expect_close(found.residual, reference.residual, "residual");
  expect_close(found.energy, reference.energy, "energy");
  expect_close(found.scores, reference.scores, "scores");
}

}  // namespace hopfield::testing
