// These tests compare retrieve() without gradient on the device at hand with the composite in float64.

#include "support/decisions.h"
#include "support/device.h"
#include "support/naive.h"
#include "support/retrieve_input.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

namespace hopfield {
namespace {

using testing::kLayouts;
using testing::kMaskKinds;
using testing::Layout;
using testing::make_case;
using testing::MaskKind;
using testing::randn;
using testing::test_device;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

RetrieveInput on_device(RetrieveInput input, at::ScalarType type) {
  for (auto* tensor : {&input.state, &input.stored, &input.projection}) {
    if (tensor->defined()) *tensor = tensor->to(test_device(), type);
  }
  for (auto* tensor :
       {&input.offsets, &input.masks.association_mask, &input.masks.padding_mask, &input.masks.key_bias}) {
    if (tensor->defined()) *tensor = tensor->to(test_device());
  }
  for (auto* mask : {&input.masks.association_mask, &input.masks.key_bias}) {
    if (mask->defined() && mask->scalar_type() == at::kDouble && type != at::kDouble) *mask = mask->to(at::kFloat);
  }
  return input;
}

/// Largest difference, relative to numbers above 1; infinity where not the same numbers are finite.
double error(const at::Tensor& found, const at::Tensor& reference) {
  if (reference.numel() == 0) return found.sizes() == reference.sizes() ? 0 : kInfinity;
  const auto sizes = testing::finite_part(reference).abs().clamp_min(1);
  return (testing::absolute_errors(found, reference) / sizes).max().item<double>();
}

/// Without this, a device could make other updates.
void expect_clear_decisions(const RetrieveInput& input, const RetrieveOptions& options) {
  EXPECT_TRUE(testing::decides_clearly(options, [&](RetrieveOptions other) {
    return retrieve(on_device(input, at::kDouble), other.backend(Backend::composite)).steps;
  }));
}

void expect_like_composite(const RetrieveInput& input, RetrieveOptions options, const std::string& name) {
  const at::NoGradGuard no_grad;
  const auto reference = retrieve(on_device(input, at::kDouble), RetrieveOptions(options).backend(Backend::composite));
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    // Inputs are rounded to bfloat16, and so are some values on the way, here or in the CPU's kernels.
    const double tolerance = type == at::kFloat ? 3e-5 : 6e-2;
    const auto found = retrieve(on_device(input, type), options.backend(Backend::fused));
    for (const auto member : {&RetrieveResult::output, &RetrieveResult::state, &RetrieveResult::logsumexp,
                              &RetrieveResult::scores, &RetrieveResult::energy}) {
      if (!(reference.*member).defined()) continue;
      EXPECT_LT(error(found.*member, reference.*member), tolerance) << name << " " << type;
    }
    if (type == at::kBFloat16) continue;
    EXPECT_TRUE(at::equal(found.steps.cpu(), reference.steps.cpu())) << name;
  }
  expect_clear_decisions(input, options);
}

TEST(RetrieveOnDevice, EqualsTheCompositeForAllLayoutsAndMasks) {
  uint64_t seed = 0;
  for (const auto layout : kLayouts) {
    for (const auto mask : kMaskKinds) {
      if (layout == Layout::ragged && !testing::is_for_ragged(mask)) continue;
      for (const bool own_projection : {false, true}) {
        const auto c = make_case(layout, mask, own_projection, ++seed, {3, 2, 5, 40, 12, 7});
        auto options = RetrieveOptions().beta(0.4).fixed_steps(static_cast<int64_t>(seed % 3)).with_scores();
        if (layout != Layout::ragged) options.with_energy();
        expect_like_composite(c.input, options, c.name);
      }
    }
  }
}

TEST(RetrieveOnDevice, TakesStridedPatterns) {
  auto c = make_case(Layout::dense, MaskKind::boolean, true, 3, {2, 3, 6, 35, 20, 11});
  auto& in = c.input;
  in.stored = in.stored.transpose(1, 2).contiguous().transpose(1, 2);
  in.projection = in.projection.transpose(2, 3).contiguous().transpose(2, 3);
  in.state = in.state.transpose(1, 2).contiguous().transpose(1, 2);
  expect_like_composite(in, RetrieveOptions().beta(0.3).fixed_steps(2), "strided");
  in.state = in.state.slice(2, 0, 1).expand({-1, -1, 6, -1});
  expect_like_composite(in, RetrieveOptions().beta(0.3).fixed_steps(1), "expanded");
}

TEST(RetrieveOnDevice, StopsEachQueryWhenItStandsStill) {
  const auto c = make_case(Layout::dense, MaskKind::none, true, 5, {2, 2, 9, 30, 8, 6});
  const auto options = RetrieveOptions().beta(0.2).until_converged().update_steps_eps(1e-3);
  const at::NoGradGuard no_grad;
  const auto reference =
      retrieve(on_device(c.input, at::kDouble), RetrieveOptions(options).backend(Backend::composite));
  const auto found = retrieve(on_device(c.input, at::kFloat), RetrieveOptions(options).backend(Backend::fused));
  EXPECT_LT(error(found.output, reference.output), 1e-4);
  expect_clear_decisions(c.input, options);
  EXPECT_TRUE(at::equal(found.steps.cpu(), reference.steps.cpu()));
  EXPECT_TRUE(at::equal(found.converged.cpu(), reference.converged.cpu()));
  EXPECT_TRUE(found.converged.all().item<bool>());
}

TEST(RetrieveOnDevice, StopsHeadsAsAWhole) {
  const at::NoGradGuard no_grad;
  uint64_t seed = 100;
  for (const auto layout : kLayouts) {
    for (const auto mask : kMaskKinds) {
      if (layout == Layout::ragged && !testing::is_for_ragged(mask)) continue;
      const auto c = make_case(layout, mask, mask == MaskKind::none, ++seed, {3, 2, 5, 40, 12, 7});
      for (const auto& options : {RetrieveOptions().fixed_steps(2), RetrieveOptions().until_converged(),
                                  RetrieveOptions().update_steps_max({7, 3}).update_steps_eps({0.02, 0.0})}) {
        SCOPED_TRACE(c.name);
        const auto per_head = RetrieveOptions(options).beta(0.15).stop_rule(StopRule::per_head).with_scores();
        expect_like_composite(c.input, per_head, c.name);
        const auto reference =
            retrieve(on_device(c.input, at::kDouble), RetrieveOptions(per_head).backend(Backend::composite));
        const auto found = retrieve(on_device(c.input, at::kFloat), RetrieveOptions(per_head).backend(Backend::fused));
        EXPECT_LT(error(found.residual, reference.residual), 1e-5);
        EXPECT_TRUE(at::equal(found.converged.cpu(), reference.converged.cpu()));
      }
    }
  }
}

TEST(RetrieveOnDevice, TakesSizesOfZero) {
  for (int64_t zero = 0; zero < 6; ++zero) {
    int64_t sizes[] = {2, 2, 3, 5, 4, 3};
    sizes[zero] = 0;
    RetrieveInput in;
    in.state = randn({sizes[0], sizes[1], sizes[2], sizes[4]}, 1);
    in.stored = randn({sizes[0], sizes[1], sizes[3], sizes[4]}, 2);
    in.projection = randn({sizes[0], sizes[1], sizes[3], sizes[5]}, 3);
    expect_like_composite(in, RetrieveOptions().beta(1.0).fixed_steps(1), std::to_string(zero));
  }
}

}  // namespace
}  // namespace hopfield
