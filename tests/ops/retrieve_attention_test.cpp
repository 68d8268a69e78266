// Which calls of retrieve() LibTorch's attention serves, and that it serves them like the composite.

#include "ops/retrieve_attention.h"

#include "support/naive.h"
#include "support/retrieve_case.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hopfield {
namespace {

using ::testing::HasSubstr;
using testing::kLayouts;
using testing::Layout;
using testing::make_case;
using testing::MaskKind;
using testing::randn;

RetrieveInput plain_input(at::ScalarType type = at::kBFloat16) {
  RetrieveInput in;
  in.state = randn({2, 3, 5, 16}, 1).to(type);
  in.stored = randn({2, 3, 7, 16}, 2).to(type);
  in.projection = randn({2, 3, 7, 16}, 3).to(type);
  return in;
}

std::string objection(const RetrieveInput& input, const RetrieveOptions& options = {}) {
  return detail::options_against_attention(input, options.settings()).value_or("");
}

TEST(RetrieveAttention, TakesPlainCallsWithoutUpdates) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    EXPECT_EQ(objection(plain_input(type)), "");
    EXPECT_EQ(objection(plain_input(type), RetrieveOptions().beta(0.3)), "");
    EXPECT_EQ(objection(plain_input(type), RetrieveOptions().update_steps_max({0, 0, 0})), "");
  }
  auto in = plain_input();
  in.projection = at::Tensor();
  EXPECT_EQ(objection(in), "");
  in.stored = in.stored.slice(0, 0, 1).slice(1, 0, 1);
  EXPECT_EQ(objection(in), "");
}

TEST(RetrieveAttention, SaysWhyItDoesNotTakeOptions) {
  const auto expect = [](const RetrieveOptions& options, const char* words) {
    EXPECT_THAT(objection(plain_input(), options), HasSubstr(words));
  };
  expect(RetrieveOptions().fixed_steps(1), "no updates");
  expect(RetrieveOptions().update_steps_max({0, 0, 2}), "no updates");
  expect(RetrieveOptions().until_converged(), "no updates");
  expect(RetrieveOptions().dropout(0.1), "dropout");
  expect(RetrieveOptions().with_scores(), "scores");
  expect(RetrieveOptions().with_energy(), "energies");
  expect(RetrieveOptions().beta({0.1, 0.2, 0.3}), "beta");
  expect(RetrieveOptions().beta(0.0), "not positive");
  expect(RetrieveOptions().beta(-1.0), "not positive");
  expect(RetrieveOptions().beta(at::full({}, 0.5, at::device(at::kMeta))), "traced");
}

TEST(RetrieveAttention, SaysWhyItDoesNotTakePatterns) {
  const auto expect = [](const std::function<void(RetrieveInput&)>& change, const char* words) {
    auto in = plain_input();
    change(in);
    EXPECT_THAT(objection(in), HasSubstr(words));
  };
  expect([](RetrieveInput& in) { in = plain_input(at::kFloat); }, "Float");
  expect([](RetrieveInput& in) { in.state = in.state.to(at::kMeta); }, "traced");
  expect([](RetrieveInput& in) { in.offsets = at::tensor({0, 7}); }, "ragged");
  expect([](RetrieveInput& in) { in.association_mask = at::zeros({1, 1, 5, 7}, at::kBool); }, "masks");
  expect([](RetrieveInput& in) { in.padding_mask = at::zeros({2, 1, 1, 7}, at::kBool); }, "masks");
  expect([](RetrieveInput& in) { in.key_bias = at::zeros({1, 1, 1, 7}); }, "biases");
  expect([](RetrieveInput& in) { in.projection = in.projection.slice(3, 0, 8); }, "one width");
  expect([](RetrieveInput& in) { in.projection = in.projection.slice(0, 0, 1); }, "shared differently");
  for (const int64_t width : {12, 264}) {
    expect(
        [&](RetrieveInput& in) {
          in.state = at::zeros({2, 3, 5, width}, at::kHalf);
          in.stored = in.projection = at::zeros({2, 3, 7, width}, at::kHalf);
        },
        "one width");
  }
  expect([](RetrieveInput& in) { in.state = in.state.slice(2, 0, 0); }, "nobody");
  expect([](RetrieveInput& in) { in.stored = in.projection = in.stored.slice(2, 0, 0); }, "nothing");
  expect(
      [](RetrieveInput& in) {
        in.state = in.stored = at::zeros({1, 1, 1, 8}, at::kHalf).expand({65536, 1, 1, 8});
        in.projection = at::Tensor();
      },
      "65535");
  expect([](RetrieveInput& in) { in.state = at::zeros({1}, at::kBFloat16).expand({2, 3, 1 << 25, 16}); }, "2^31");
}

TEST(RetrieveAttention, LeavesGradientsToOthers) {
  for (const auto member : {&RetrieveInput::state, &RetrieveInput::stored, &RetrieveInput::projection}) {
    auto in = plain_input();
    (in.*member).requires_grad_(true);
    EXPECT_THAT(objection(in), HasSubstr("gradient"));
    const at::NoGradGuard no_grad;
    EXPECT_EQ(objection(in), "");
  }
  const auto beta = at::full({}, 0.5, at::kDouble).requires_grad_(true);
  EXPECT_THAT(objection(plain_input(), RetrieveOptions().beta(beta)), HasSubstr("gradient"));
}

TEST(RetrieveAttention, LeavesDeterministicAlgorithmsToOthers) {
  at::globalContext().setDeterministicAlgorithms(true, false);
  const auto reason = objection(plain_input());
  at::globalContext().setDeterministicAlgorithms(false, false);
  EXPECT_THAT(reason, HasSubstr("deterministic"));
}

TEST(RetrieveAttention, IsForGpus) {
  const auto reason = detail::reason_against_attention(plain_input(), {});
  EXPECT_THAT(reason.value_or(""), HasSubstr("GPU"));
}

class RetrieveAttentionCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "there is no CUDA device";
  }
  void TearDown() override { allow(true, true); }
  static void allow(bool cudnn, bool flash) {
    at::globalContext().setSDPUseCuDNN(cudnn);
    at::globalContext().setSDPUseFlash(flash);
  }
};

RetrieveInput on_gpu(RetrieveInput in, at::ScalarType type) {
  for (auto* tensor : {&in.state, &in.stored, &in.projection}) {
    if (tensor->defined()) *tensor = tensor->to(at::kCUDA, type);
  }
  return in;
}

double difference(const at::Tensor& found, const at::Tensor& reference) {
  EXPECT_EQ(found.sizes(), reference.sizes());
  return (found.to(at::kDouble) - reference.to(at::kDouble)).abs().max().item<double>();
}

/// Against the composite in float64, on the very numbers that the call has.
void expect_like_composite(const RetrieveInput& in, const RetrieveOptions& options, bool is_attention) {
  const at::NoGradGuard no_grad;
  const auto type = in.state.scalar_type();
  // The kernels' own judgement needs four dimensions.
  if (in.state.dim() == 4) {
    EXPECT_EQ(!detail::reason_against_attention(in, options.settings()), is_attention);
  }
  const auto found = retrieve(in, options);
  const auto exact = retrieve(on_gpu(in, at::kDouble), RetrieveOptions(options).backend(Backend::composite));
  const auto plain = retrieve(in, RetrieveOptions(options).backend(Backend::composite));
  // Weights are rounded to the type, which the composite does not do.
  const double rounding = type == at::kHalf ? 2e-3 : 2e-2;
  EXPECT_LE(difference(found.output, exact.output), rounding + 2 * difference(plain.output, exact.output));
  EXPECT_LT(difference(found.logsumexp, exact.logsumexp), 1e-3);
  EXPECT_TRUE(at::equal(found.state, in.state));
  EXPECT_FALSE(found.state.is_alias_of(in.state));
  EXPECT_TRUE(at::equal(found.steps, plain.steps));
  EXPECT_TRUE(at::equal(found.converged, plain.converged));
  EXPECT_TRUE(found.residual.isnan().all().item<bool>());
  for (const auto member : {&RetrieveResult::output, &RetrieveResult::logsumexp, &RetrieveResult::steps,
                            &RetrieveResult::residual, &RetrieveResult::converged, &RetrieveResult::state}) {
    EXPECT_EQ((found.*member).scalar_type(), (plain.*member).scalar_type());
    EXPECT_EQ((found.*member).sizes(), (plain.*member).sizes());
  }
}

TEST_F(RetrieveAttentionCuda, ServesAllLayouts) {
  for (const auto& [cudnn, flash] : {std::pair{true, true}, {false, true}, {false, false}}) {
    allow(cudnn, flash);
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      for (const auto layout : kLayouts) {
        for (const bool own_projection : {false, true}) {
          const auto c = make_case(layout, MaskKind::none, own_projection, 7, {3, 2, 70, 130, 64, 64});
          SCOPED_TRACE(c10::str(c.name, " ", type, cudnn ? " cudnn" : "", flash ? " flash" : ""));
          const bool is_attention = layout != Layout::ragged && (cudnn || flash);
          auto in = on_gpu(c.input, type);
          if (in.offsets.defined()) in.offsets = in.offsets.to(at::kCUDA);
          if (layout != Layout::ragged) expect_like_composite(in, RetrieveOptions().beta(0.2), is_attention);
          if (layout == Layout::ragged) {
            EXPECT_TRUE(detail::reason_against_attention(in, {}));
          }
        }
      }
    }
  }
}

TEST_F(RetrieveAttentionCuda, ServesFewerDimensionsAndStrides) {
  auto in = on_gpu(plain_input(), at::kBFloat16);
  for (auto* tensor : {&in.state, &in.stored, &in.projection}) {
    *tensor = tensor->transpose(1, 2).contiguous().transpose(1, 2);  // as layers have them
  }
  expect_like_composite(in, RetrieveOptions(), true);
  auto three = in, two = in;
  for (const auto member : {&RetrieveInput::state, &RetrieveInput::stored, &RetrieveInput::projection}) {
    three.*member = (in.*member).select(1, 0);
    two.*member = (in.*member).select(1, 0).select(0, 1);
  }
  expect_like_composite(three, RetrieveOptions(), true);
  expect_like_composite(two, RetrieveOptions(), true);
  auto odd = in;  // rows that begin anywhere
  odd.stored = at::empty({2, 3, 7, 17}, in.state.options()).slice(3, 1).copy_(in.stored);
  expect_like_composite(odd, RetrieveOptions(), false);
}

}  // namespace
}  // namespace hopfield
