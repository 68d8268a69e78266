// These tests check the values and gradients that the fused kernels of retrieve() give on the device at hand.

#include "retrieve_fused_case.h"

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::compare;
using testing::draw;
using testing::kernels_run_on_host;
using testing::Layout;
using testing::make_case;
using testing::MaskKind;
using testing::plain_sample;
using testing::randn;
using testing::RetrieveShape;
using testing::rounded_to;
using testing::run;
using testing::runs_the_gpus_kernels;
using testing::test_device;

// The host takes a second for each case of the GPU's kernels.
uint64_t number_of_tests() { return kernels_run_on_host ? 1 : 20; }
uint64_t cases_in_test() { return kernels_run_on_host ? 25 : 100; }

class Generated : public ::testing::TestWithParam<uint64_t> {};

TEST_P(Generated, StayWithinTheErrorRule) {
  for (uint64_t i = 0; i < cases_in_test() && !HasFailure(); ++i) {
    const auto seed = GetParam() * cases_in_test() + i;
    const auto narrow = runs_the_gpus_kernels() && seed % 2 == 0 ? at::kHalf : at::kBFloat16;
    compare(draw(seed), seed % 3 == 2 ? narrow : at::kFloat);
  }
}

INSTANTIATE_TEST_SUITE_P(Fused, Generated, ::testing::Range<uint64_t>(0, number_of_tests()));

TEST(FusedOnDevice, SurvivesExtremeBeta) {
  for (const double beta : {0.0, 1e-6, 8.0, 1e3, 1e6, -3.0}) {
    compare(plain_sample({2, 2, 20, 70, 16, 16}, Layout::dense, true, 2, beta, 5), at::kFloat);
    compare(plain_sample({2, 2, 3, 70, 16, 16}, Layout::dense, false, 1, beta, 6), at::kFloat);
  }
}

/// These rows of 16-bit numbers fill whole units of 16 bytes, which the hardware of some GPUs copies by itself.
TEST(FusedOnDevice, TakesRowsThatHardwareCopies) {
  for (const auto layout : {Layout::dense, Layout::batch_shared, Layout::heads_shared, Layout::all_shared}) {
    compare(plain_sample({2, 2, 70, 140, 16, 24}, layout, true, 2, 0.3, 3), at::kBFloat16);
  }
  compare(plain_sample({2, 2, 5, 300, 72, 72}, Layout::dense, false, 3, -0.1, 4), at::kBFloat16);
}

TEST(FusedOnDevice, NanInLivePatternsStaysInItsOwnRows) {
  auto sample = plain_sample({3, 2, 4, 20, 16, 16}, Layout::dense, true, 1, 0.5, 9);
  const auto clean = run(sample, at::kFloat, Backend::fused, false);
  for (auto* spoilt : {&sample.input.state, &sample.input.stored, &sample.input.projection}) {
    const auto before = spoilt->clone();
    (*spoilt)[1][0][2].fill_(std::numeric_limits<double>::quiet_NaN());
    const auto found = run(sample, at::kFloat, Backend::fused, false),
               plain = run(sample, at::kFloat, Backend::composite, false);
    EXPECT_TRUE(at::isnan(found.outputs[0]).equal(at::isnan(plain.outputs[0])));
    EXPECT_TRUE(at::isnan(found.outputs[1]).equal(at::isnan(plain.outputs[1])));
    EXPECT_TRUE(bitwise_equal(found.outputs[0][0], clean.outputs[0][0]));
    EXPECT_TRUE(bitwise_equal(found.outputs[0][1][1], clean.outputs[0][1][1]));
    *spoilt = before;
  }
}

TEST(FusedOnDevice, CanBeDifferentiatedTwice) {
  auto sample = plain_sample({2, 1, 3, 6, 4, 4}, Layout::dense, true, 2, 0.7, 4);
  const auto second = [&](Backend backend) {
    const auto state = sample.input.state.to(test_device(), at::kFloat).requires_grad_(true);
    const auto stored = sample.input.stored.to(test_device(), at::kFloat).requires_grad_(true);
    const auto r = retrieve({state, stored}, RetrieveOptions().fixed_steps(2).backend(backend));
    const auto first = torch::autograd::grad({r.output.pow(2).sum()}, {state, stored}, {}, true, true);
    return torch::autograd::grad({first[0].pow(2).sum() + first[1].pow(2).sum()}, {state, stored});
  };
  const auto fused = second(Backend::fused), plain = second(Backend::composite);
  for (size_t i = 0; i < 2; ++i) EXPECT_LT((fused[i] - plain[i]).abs().max().item<double>(), 1e-4);
}

TEST(FusedOnDevice, NoticesTensorsChangedBetweenForwardAndBackward) {
  const auto state = at::randn({1, 1, 3, 8}, test_device()).requires_grad_(true),
             stored = at::randn({1, 1, 5, 8}, test_device());
  const auto r = retrieve({state, stored}, RetrieveOptions().fixed_steps(1).backend(Backend::fused));
  stored.add_(1.0);
  EXPECT_THROW(r.output.sum().backward(), c10::Error);
}

TEST(FusedOnDevice, EnergyFallsWithEveryUpdate) {
  const auto stored = randn({1, 1, 50, 16}, 1).to(test_device(), at::kFloat),
             state = 0.1 * randn({1, 1, 20, 16}, 2).to(test_device(), at::kFloat);
  auto padding = at::zeros({1, 50}, stored.options().dtype(at::kBool));
  padding.slice(1, 30).fill_(true);
  at::Tensor before;
  for (int64_t steps = 0; steps < 12; ++steps) {
    const auto r = retrieve({state, stored, {}, {padding}},
                            RetrieveOptions().beta(0.7).fixed_steps(steps).with_energy().backend(Backend::fused));
    // A key bias, so that the same kernel serves both: the states move away from a point that repels them, where other
    // roundings soon lead to other states.
    const auto live = retrieve({state, stored.slice(2, 0, 30), {}, {{}, {}, at::zeros({1, 30}, stored.options())}},
                               RetrieveOptions().beta(0.7).fixed_steps(steps).with_energy().backend(Backend::fused));
    EXPECT_LT((r.energy - live.energy).abs().max().item<double>(), 1e-4);
    if (before.defined()) {
      EXPECT_LE((r.energy - before).max().item<double>(), 1e-4) << steps;
    }
    before = r.energy;
  }
}

TEST(FusedOnDevice, MeasuresTheChangeOfAssociations) {
  for (const double beta : {0.05, 0.5, 4.0, 40.0}) {
    for (const auto layout : {Layout::dense, Layout::ragged, Layout::heads_shared}) {
      for (const auto mask : {MaskKind::none, MaskKind::key_bias}) {
        const auto input = make_case(layout, mask, true, 21, {3, 2, 5, 700, 16, 16}).input;
        auto floats = input;
        if (input.offsets.defined()) floats.offsets = input.offsets.to(test_device());
        for (auto* tensor : {&floats.state, &floats.stored, &floats.projection, &floats.masks.key_bias}) {
          if (tensor->defined()) *tensor = tensor->to(test_device(), at::kFloat);
        }
        for (const int64_t steps : {1, 2, 4, 7}) {
          const auto options = RetrieveOptions().beta(beta).fixed_steps(steps).stop_rule(StopRule::per_head);
          const auto expected = retrieve(input, options).residual;
          const auto error = [&](Backend backend) {
            return (retrieve(floats, RetrieveOptions(options).backend(backend)).residual.cpu() - expected).abs();
          };
          // Scores change by up to 100 beta here, and carry the rounding of that.
          const auto rounding = 4e-6 * beta;
          const auto allowed = at::maximum(2 * error(Backend::composite), 1e-3 * expected + rounding);
          EXPECT_TRUE(error(Backend::fused).le(allowed).all().item<bool>()) << "beta " << beta << " steps " << steps;
        }
      }
    }
  }
}

TEST(FusedOnDevice, TrainsUntilConvergedWithoutKeepingStates) {
  auto sample = plain_sample({2, 2, 5, 40, 16, 16}, Layout::dense, true, kUntilConverged, 2.0, 17);
  sample.eps = {1e-3};
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    sample.rule = rule;
    compare(sample, at::kFloat);
  }
}

TEST(FusedOnDevice, SolvesForTheImplicitGradient) {
  const RetrieveShape shape{2, 2, 3, 20, 10, 7};
  uint64_t seed = 40;
  for (const auto layout : testing::kLayouts) {
    const auto mask = layout == Layout::dense ? MaskKind::everything : MaskKind::key_bias;
    auto sample = plain_sample(shape, layout, true, kUntilConverged, 0.25, ++seed);
    sample.input = make_case(layout, mask, true, seed, shape).input;
    sample.eps = {1e-5};
    sample.gradient = Gradient::implicit();
    for (const int64_t cap : {300, 3}) {  // where 3 are too few, the last update's gradient
      sample.cap = cap;
      const auto reference = run(rounded_to(sample, at::kFloat), at::kDouble, Backend::composite);
      const auto found = run(sample, at::kFloat, Backend::fused);
      EXPECT_EQ(found.gradients[0].abs().sum().item<double>(), 0);
      for (size_t i = 1; i < reference.gradients.size(); ++i) {
        const auto size = reference.gradients[i].abs().max().item<double>();
        EXPECT_LT(testing::errors(found.gradients[i], reference.gradients[i]).first, 1e-3 * size)
            << sample.input.stored.sizes() << " cap " << cap << " gradient " << i;
      }
    }
  }
}

}  // namespace
}  // namespace hopfield
