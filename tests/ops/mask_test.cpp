#include "support/member.h"
#include "support/naive.h"
#include "support/retrieve_input.h"
#include <hopfield/ops/retrieve.h>

#include <gtest/gtest.h>

#include <cmath>

namespace hopfield {
namespace {

using namespace testing;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

RetrieveOptions steps(int64_t count) { return RetrieveOptions().beta(1.3).fixed_steps(count).with_energy(); }

/// Output and gradients of stored and projection for a loss over all rows that are numbers.
struct Everything {
  RetrieveResult result;
  at::Tensor grad_state, grad_stored, grad_projection;
};

Everything run(RetrieveInput input, const RetrieveOptions& options) {
  for (auto* tensor : {&input.state, &input.stored, &input.projection})
    *tensor = tensor->detach().clone().requires_grad_(true);
  Everything e{retrieve(input, options), {}, {}, {}};
  const auto usable = at::isfinite(e.result.output.detach()).all(-1, true);
  at::where(usable, e.result.output, at::zeros_like(e.result.output)).pow(2).sum().backward();
  e.grad_state = input.state.grad();
  e.grad_stored = input.stored.grad();
  e.grad_projection = input.projection.grad();
  return e;
}

/// Case number, steps, dtype, kind of poison: at least 300 together with the loops below.
TEST(Masks, ExcludedKeysMayHoldAnything) {
  int checked = 0;
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const double poison : {kNaN, kInfinity, -kInfinity}) {
      for (const int64_t count : {0, 1, 3}) {
        for (const auto mask : {MaskKind::padding, MaskKind::key_bias, MaskKind::boolean}) {
          for (const bool shared : {false, true}) {
            for (const bool everything : {false, true}) {
              auto c = make_case(shared ? Layout::all_shared : Layout::dense, mask, true, 40 + checked);
              auto input = c.input;
              for (auto* tensor : {&input.state, &input.stored, &input.projection}) *tensor = tensor->to(dtype);
              // Keys that no query of their batch element sees, made so for this test.
              auto hidden = at::zeros({3, 5}, at::kBool);
              hidden.select(1, 2).fill_(true);
              if (everything) hidden[1].fill_(true);
              if (mask == MaskKind::boolean) {
                input.masks.association_mask = input.masks.association_mask.logical_or(hidden.view({3, 1, 1, 5}));
              } else if (mask == MaskKind::padding) {
                input.masks.padding_mask = input.masks.padding_mask.logical_or(hidden);
              } else {
                input.masks.key_bias = input.masks.key_bias.masked_fill(hidden, -kInfinity);
              }
              const auto clean = run(input, steps(count));
              auto poisoned = input;
              const auto where =
                  shared ? hidden.all(0, true).unsqueeze(1).unsqueeze(-1) : hidden.unsqueeze(1).unsqueeze(-1);
              poisoned.stored = input.stored.masked_fill(where, poison);
              poisoned.projection = input.projection.masked_fill(where, poison);
              auto zeroed = input;
              zeroed.stored = input.stored.masked_fill(where, 0);
              zeroed.projection = input.projection.masked_fill(where, 0);
              const auto dirty = run(poisoned, steps(count)), zero = run(zeroed, steps(count));
              EXPECT_TRUE(bitwise_equal(dirty.result.output, zero.result.output));
              EXPECT_TRUE(bitwise_equal(dirty.result.energy, zero.result.energy));
              EXPECT_TRUE(bitwise_equal(dirty.result.steps, zero.result.steps));
              EXPECT_TRUE(bitwise_equal(dirty.grad_state, zero.grad_state));
              EXPECT_TRUE(bitwise_equal(dirty.grad_stored, zero.grad_stored));
              EXPECT_TRUE(bitwise_equal(dirty.grad_projection, zero.grad_projection));
              EXPECT_TRUE(at::isfinite(dirty.result.output).all().item<bool>());
              EXPECT_EQ(dirty.grad_stored.masked_select(where).abs().sum().item<double>(), 0);
              ++checked;
            }
          }
        }
      }
    }
  }
  EXPECT_GE(checked, 300);
}

TEST(Masks, RowsWithoutKeysAreZeroWithZeroGradientAndNeighboursUnchanged) {
  const auto c = make_case(Layout::dense, MaskKind::none, true, 5);
  for (const int64_t count : {0, 2}) {
    const auto open = run(c.input, steps(count));
    auto input = c.input;
    input.masks.association_mask = at::zeros({3, 2, 2, 5}, at::kBool);
    input.masks.association_mask[1][0][1].fill_(true);
    const auto e = run(input, steps(count));
    auto others = at::ones({3, 2, 2}, at::kBool);
    others[1][0][1] = false;
    EXPECT_TRUE(bitwise_equal(e.result.output.index({others}), open.result.output.index({others})));
    EXPECT_EQ(e.result.output[1][0][1].abs().sum().item<double>(), 0);
    EXPECT_EQ(e.result.logsumexp[1][0][1].item<double>(), -kInfinity);
    EXPECT_EQ(e.result.energy[1][0][1].item<double>(), kInfinity);
    EXPECT_EQ(e.result.steps[1][0][1].item<int64_t>(), 0);
    EXPECT_TRUE(e.result.converged[1][0][1].item<bool>());
    EXPECT_TRUE(bitwise_equal(e.result.state[1][0][1], c.input.state[1][0][1]));
    EXPECT_EQ(e.grad_state[1][0][1].abs().sum().item<double>(), 0);
    EXPECT_TRUE(at::isfinite(e.grad_stored).all().item<bool>());
    EXPECT_TRUE(at::isfinite(e.grad_projection).all().item<bool>());
  }
}

TEST(Masks, LiveNonFinitePatternsShowInTheirOwnRowsOnly) {
  for (const double poison : {kNaN, kInfinity}) {
    for (const int64_t count : {0, 2}) {
      for (const bool in_values : {false, true}) {
        auto c = make_case(Layout::dense, MaskKind::none, true, 6);
        auto input = c.input;
        input.masks.association_mask = at::zeros({3, 2, 2, 5}, at::kBool);
        input.masks.association_mask.select(2, 0).select(-1, 3).fill_(true);  // query 0 never sees key 3, query 1 does
        const auto clean = retrieve(input, steps(count));
        auto& target = in_values ? input.projection : input.stored;
        target = target.clone();
        target[1][1][3][0] = poison;
        const auto r = retrieve(input, steps(count));
        EXPECT_TRUE(r.output[1][1][1].isnan().all().item<bool>());
        auto others = at::ones({3, 2, 2}, at::kBool);
        others[1][1][1] = false;
        EXPECT_TRUE(bitwise_equal(r.output.index({others}), clean.output.index({others})));
      }
    }
  }
  // Without any mask every row of the head may attend to it.
  auto c = make_case(Layout::dense, MaskKind::none, true, 6);
  const auto clean = retrieve(c.input, steps(1));
  c.input.stored[1][1][3][0] = kNaN;
  const auto r = retrieve(c.input, steps(1));
  EXPECT_TRUE(r.output[1][1].isnan().all().item<bool>());
  EXPECT_TRUE(bitwise_equal(r.output[0], clean.output[0]));
  EXPECT_TRUE(bitwise_equal(r.output[1][0], clean.output[1][0]));
}

TEST(Masks, VeryNegativeNumbersAreNotInfinity) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const auto x = randn({1, 1, 3, 4}, 1).to(dtype);
    for (const double low : {-10.0, -1e4, -1e10, static_cast<double>(std::numeric_limits<float>::lowest())}) {
      auto mask = at::zeros({3, 3}, at::kFloat);
      mask.select(1, 1).fill_(low);
      const auto masked = retrieve(RetrieveInput{x, x, {}, {{}, mask}}, steps(2));
      EXPECT_TRUE(at::isfinite(masked.output).all().item<bool>()) << low << " " << dtype;
      if (low > -1e4) continue;
      const auto without = retrieve(x, at::cat({x.slice(2, 0, 1), x.slice(2, 2, 3)}, 2), steps(2));
      EXPECT_LT(max_difference(masked.output, without.output), 1e-2);
    }
  }
}

TEST(Extremes, LargeBetaAndInputsStayFinite) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const double beta : {0.0, 1e-6, 1.0, 8.0, 1e3, 1e6, -2.0}) {
      for (const double scale : {1.0, 1e4}) {
        const auto state = (randn({1, 2, 4, 8}, 1) * scale).to(dtype),
                   stored = (randn({1, 2, 7, 8}, 2) * scale).to(dtype);
        const auto r = retrieve(state, stored, RetrieveOptions().beta(beta).update_steps_max(3));
        EXPECT_TRUE(at::isfinite(r.output).all().item<bool>()) << beta << " " << scale;
      }
    }
  }
  const auto x = randn({1, 1, 5, 6}, 3);
  const auto stored = x / x.norm(2, -1, true);
  const auto r = retrieve(stored, stored, RetrieveOptions().beta(1e6).fixed_steps(2));
  EXPECT_TRUE(bitwise_equal(r.output, stored)) << "the limit is the pattern itself, exactly";
}

TEST(Layouts, GiveTheSameNumbers) {
  const auto c = make_case(Layout::dense, MaskKind::floating, true, 7);
  const auto expected = run(c.input, steps(2));
  const auto other_layouts = [](const at::Tensor& x) {
    const auto last = x.dim() - 1;
    auto sizes = x.sizes().vec();
    sizes.back() *= 2;
    auto strided = at::zeros(sizes, x.options()).slice(last, 0, sizes.back(), 2);
    strided.copy_(x);
    auto padded = at::cat({at::zeros({1}, x.options()), x.reshape({-1})}).slice(0, 1).view(x.sizes());
    return std::vector<at::Tensor>{x.transpose(0, 1).contiguous().transpose(0, 1),
                                   x.transpose(2, 3).contiguous().transpose(2, 3),
                                   at::cat({x, x}, 1).slice(1, 0, x.size(1)), strided, padded};
  };
  for (const auto& member : Members<RetrieveInput>{&RetrieveInput::state, &RetrieveInput::stored,
                                                   &RetrieveInput::projection, &Masks::association_mask}) {
    for (const auto& layout : other_layouts(member(c.input))) {
      auto input = c.input;
      member(input) = layout;
      const auto r = retrieve(input, steps(2));
      EXPECT_LT(max_difference(r.output, expected.result.output), 1e-13);
    }
  }
  // A gradient of stride 0, as sum() makes it.
  auto input = c.input;
  input.stored = input.stored.clone().requires_grad_(true);
  retrieve(input, steps(2)).output.sum().backward();
  const auto of_sum = input.stored.grad().clone();
  input.stored = input.stored.detach().clone().requires_grad_(true);
  const auto output = retrieve(input, steps(2)).output;
  output.backward(at::ones_like(output));
  EXPECT_LT(max_difference(of_sum, input.stored.grad()), 1e-13);
}

}  // namespace
}  // namespace hopfield
