// These tests check which calls of retrieve() LibTorch's attention serves, and that it serves them like the composite.

#include "ops/retrieve_attention.h"

#include "support/naive.h"
#include "support/retrieve_input.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <torch/library.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <tuple>

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
  expect([](RetrieveInput& in) { in.masks.association_mask = at::zeros({1, 1, 5, 7}, at::kBool); }, "masks");
  expect([](RetrieveInput& in) { in.masks.padding_mask = at::zeros({2, 1, 1, 7}, at::kBool); }, "masks");
  expect([](RetrieveInput& in) { in.masks.key_bias = at::zeros({1, 1, 1, 7}); }, "biases");
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

RetrieveInput moved(RetrieveInput in, at::Device device, at::ScalarType type) {
  for (auto* tensor : {&in.state, &in.stored, &in.projection, &in.offsets}) {
    if (tensor->defined()) *tensor = tensor == &in.offsets ? tensor->to(device) : tensor->to(device, type);
  }
  return in;
}

double difference(const at::Tensor& found, const at::Tensor& reference) {
  EXPECT_EQ(found.sizes(), reference.sizes());
  return (found.to(at::kDouble) - reference.to(at::kDouble)).abs().max().item<double>();
}

/// Compares a call with the composite in float64 on the same numbers.
void expect_like_composite(const RetrieveResult& found, const RetrieveInput& in, const RetrieveOptions& options) {
  const auto type = in.state.scalar_type();
  const auto by_composite = RetrieveOptions(options).backend(Backend::composite);
  const auto exact = retrieve(moved(in, in.state.device(), at::kDouble), by_composite);
  const auto plain = retrieve(in, by_composite);
  // LibTorch rounds the weights to the type of the patterns, which the composite does not.
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

using FlashOutputs = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor,
                                at::Tensor, at::Tensor>;

/// The CPU plays the part of the GPU: it gives the results of the flash kernels, with the heads last in memory.
FlashOutputs flash_by_plain_operations(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, double,
                                       bool, bool, std::optional<double> scale) {
  EXPECT_EQ(query.size(0), key.size(0));
  EXPECT_EQ(query.size(1), key.size(1));
  const auto scores = at::matmul(query.to(at::kFloat), key.to(at::kFloat).mT()) * scale.value();
  const auto output = at::matmul(at::softmax(scores, -1), value.to(at::kFloat)).to(query.scalar_type());
  return {output.transpose(1, 2).contiguous().transpose(1, 2), scores.logsumexp(-1), {}, {}, 0, 0, {}, {}, {}};
}
TORCH_LIBRARY_IMPL(aten, CPU, library) {
  library.impl("_scaled_dot_product_flash_attention", flash_by_plain_operations);
}

TEST(RetrieveAttention, TakesQueriesThatSharePatternsAsOneSet) {
  const at::NoGradGuard no_grad;
  for (const auto layout : kLayouts) {
    if (layout == Layout::ragged) continue;
    for (const bool own_projection : {false, true}) {
      const auto c = make_case(layout, MaskKind::none, own_projection, 7, {3, 2, 5, 11, 8, 8});
      SCOPED_TRACE(c.name);
      auto in = moved(c.input, at::kCPU, at::kBFloat16);
      const auto options = RetrieveOptions().beta(0.2);
      expect_like_composite(detail::retrieve_attention(in, options.settings()), in, options);
      in.state = in.state.transpose(1, 2).contiguous().transpose(1, 2);
      expect_like_composite(detail::retrieve_attention(in, {}), in, {});
    }
  }
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

void expect_served(const RetrieveInput& in, const RetrieveOptions& options, bool by_attention) {
  const at::NoGradGuard no_grad;
  if (in.state.dim() == 4) {  // which the judgement needs
    EXPECT_EQ(!detail::reason_against_attention(in, options.settings()), by_attention);
  }
  expect_like_composite(retrieve(in, options), in, options);
}

TEST_F(RetrieveAttentionCuda, ServesAllLayouts) {
  for (const auto& [cudnn, flash] : {std::pair{true, true}, {false, true}, {false, false}}) {
    allow(cudnn, flash);
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      for (const auto layout : kLayouts) {
        for (const bool own_projection : {false, true}) {
          const auto c = make_case(layout, MaskKind::none, own_projection, 7, {3, 2, 70, 130, 64, 64});
          SCOPED_TRACE(c10::str(c.name, " ", type, cudnn ? " cudnn" : "", flash ? " flash" : ""));
          const auto in = moved(c.input, at::kCUDA, type);
          if (layout == Layout::ragged) {
            EXPECT_TRUE(detail::reason_against_attention(in, {}));
          } else {
            expect_served(in, RetrieveOptions().beta(0.2), cudnn || flash);
          }
        }
      }
    }
  }
}

TEST_F(RetrieveAttentionCuda, ServesFewerDimensionsAndStrides) {
  auto in = moved(plain_input(), at::kCUDA, at::kBFloat16);
  for (auto* tensor : {&in.state, &in.stored, &in.projection}) {
    *tensor = tensor->transpose(1, 2).contiguous().transpose(1, 2);  // as layers have them
  }
  expect_served(in, RetrieveOptions(), true);
  auto three = in, two = in;
  for (const auto member : {&RetrieveInput::state, &RetrieveInput::stored, &RetrieveInput::projection}) {
    three.*member = (in.*member).select(1, 0);
    two.*member = (in.*member).select(1, 0).select(0, 1);
  }
  expect_served(three, RetrieveOptions(), true);
  expect_served(two, RetrieveOptions(), true);
  auto odd = in;  // rows that begin anywhere
  odd.stored = at::empty({2, 3, 7, 17}, in.state.options()).slice(3, 1).copy_(in.stored);
  expect_served(odd, RetrieveOptions(), false);
}

}  // namespace
}  // namespace hopfield
