#include "support/gradcheck.h"
#include "support/member.h"
#include "support/naive.h"
#include "support/retrieve_input.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hopfield {
namespace {

using namespace testing;

constexpr RetrieveShape kSmall{2, 2, 2, 3, 2, 2};
constexpr double kTolerance = 2e-6;

/// The differentiable tensors of a case, beta first, and a function that puts them back.
struct Differentiable {
  std::vector<at::Tensor> inputs;
  TensorFunction function;
};

/// Excluded entries of float masks are not differentiated: they are constants.
Differentiable differentiate(const RetrieveCase& c, const at::Tensor& beta, const RetrieveOptions& options) {
  Members<RetrieveInput> members;
  Differentiable d;
  d.inputs.push_back(beta);
  for (const auto& member :
       Members<RetrieveInput>{&RetrieveInput::state, &RetrieveInput::stored, &RetrieveInput::projection,
                              &Masks::association_mask, &Masks::key_bias}) {
    const auto& tensor = member(c.input);
    if (!tensor.defined() || !at::isFloatingType(tensor.scalar_type())) continue;
    members.push_back(member);
    d.inputs.push_back(tensor.masked_fill(at::isneginf(tensor), 0));
  }
  d.function = [=](const std::vector<at::Tensor>& x) {
    auto input = c.input;
    for (size_t i = 0; i < members.size(); ++i) {
      const auto excluded = at::isneginf(members[i](c.input));
      members[i](input) = x[i + 1].masked_fill(excluded, -std::numeric_limits<double>::infinity());
    }
    const auto r = retrieve(input, RetrieveOptions(options).beta(x[0]));
    return std::vector<at::Tensor>{r.output, r.state, r.logsumexp, r.energy, r.scores};
  };
  return d;
}

struct Combination {
  Layout layout;
  MaskKind mask;
  bool own_projection;
  int64_t steps;
  bool beta_per_head;
  StopRule rule;
  bool dropout;
};

/// The full product of the op's options.
std::vector<Combination> all_combinations() {
  std::vector<Combination> all;
  for (const auto layout : kLayouts)
    for (const auto mask : kMaskKinds)
      for (const bool own_projection : {false, true})
        for (const int64_t steps : {0, 1, 3})
          for (const bool beta_per_head : {false, true})
            for (const auto rule : {StopRule::per_query, StopRule::per_head})
              for (const bool dropout : {false, true}) {
                const bool ragged_has_no_such_mask = layout == Layout::ragged && !testing::is_for_ragged(mask);
                if (!ragged_has_no_such_mask)
                  all.push_back({layout, mask, own_projection, steps, beta_per_head, rule, dropout});
              }
  return all;
}

TEST(UnrolledGradient, PassesGradcheckForEveryCombinationOfOptions) {
  uint64_t seed = 0;
  int64_t checked = 0;
  for (const auto& o : all_combinations()) {
    const auto c = make_case(o.layout, o.mask, o.own_projection, seed += 10, kSmall);
    SCOPED_TRACE(c.name + ", steps " + std::to_string(o.steps) + ", " + to_string(o.rule) +
                 (o.dropout ? ", dropout" : ""));
    auto options = RetrieveOptions().fixed_steps(o.steps).stop_rule(o.rule).with_energy().with_scores();
    const auto beta = o.beta_per_head ? at::tensor({0.7, 1.6}, at::kDouble) : at::scalar_tensor(1.3, at::kDouble);
    auto d = differentiate(c, beta, options);
    if (o.dropout) {
      const auto with_dropout = [=](const std::vector<at::Tensor>& x) {
        auto fixed = RetrieveOptions(options).dropout(0.4).generator(at::detail::createCPUGenerator(5));
        return differentiate(c, x[0], fixed).function(x);
      };
      ASSERT_LT(gradcheck(with_dropout, d.inputs), kTolerance);
    } else {
      ASSERT_LT(gradcheck(d.function, d.inputs), kTolerance);
    }
    ++checked;
  }
  EXPECT_GE(checked, 1000);
}

TEST(UnrolledGradient, PassesGradcheckWhereRowsStopAtDifferentSteps) {
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    const auto c = make_case(Layout::dense, MaskKind::none, true, 3, {2, 2, 3, 4, 3, 2});
    const auto options = RetrieveOptions().until_converged().update_steps_eps(3e-2).stop_rule(rule).with_energy();
    const auto d = differentiate(c, at::scalar_tensor(1.1, at::kDouble), options);
    const auto steps = retrieve(c.input, RetrieveOptions(options).beta(1.1)).steps;
    EXPECT_GT((steps.max() - steps.min()).item<int64_t>(), 0);
    EXPECT_LT(gradcheck(d.function, d.inputs), kTolerance);
  }
}

TEST(UnrolledGradient, IsDifferentiableTwice) {
  for (const auto mask : {MaskKind::none, MaskKind::everything}) {
    const auto c = make_case(Layout::dense, mask, true, 4, kSmall);
    const auto d = differentiate(c, at::scalar_tensor(1.1, at::kDouble), RetrieveOptions().fixed_steps(2));
    EXPECT_LT(gradgradcheck(d.function, d.inputs), 1e-4);
  }
}

std::vector<at::Tensor> gradients(const RetrieveInput& input, const RetrieveOptions& options, const at::Tensor& beta,
                                  bool of_state = false) {
  std::vector<at::Tensor> leaves;
  for (const auto& tensor : {input.state, input.stored, input.projection, beta}) {
    leaves.push_back(tensor.detach().clone().requires_grad_(true));
  }
  auto differentiable = input;
  differentiable.state = leaves[0];
  differentiable.stored = leaves[1];
  differentiable.projection = leaves[2];
  const auto r = retrieve(differentiable, RetrieveOptions(options).beta(leaves[3]));
  const auto& out = of_state ? r.state : r.output;
  const auto result = torch::autograd::grad({(out * randn(out.sizes(), 99)).sum()}, leaves, {}, false, false, true);
  std::vector<at::Tensor> filled;
  for (size_t i = 0; i < leaves.size(); ++i)
    filled.push_back(result[i].defined() ? result[i] : at::zeros_like(leaves[i]));
  return filled;
}

/// Gradients of the composite with xi_{T-k} detached, by retrieving twice.
std::vector<at::Tensor> detached_gradients(const RetrieveInput& input, int64_t steps, int64_t k,
                                           const at::Tensor& beta) {
  auto cut = input;
  cut.state = retrieve(input, RetrieveOptions().beta(beta).fixed_steps(steps - k)).state;
  auto g = gradients(cut, RetrieveOptions().fixed_steps(k), beta);
  g[0] = at::zeros_like(g[0]);
  return g;
}

TEST(LastGradient, EqualsTheCompositeWithTheEarlierStateDetached) {
  for (const auto layout : {Layout::dense, Layout::batch_shared, Layout::ragged}) {
    const auto c = make_case(layout, MaskKind::none, true, 5);
    const auto beta = at::scalar_tensor(1.2, at::kDouble);
    for (const int64_t k : {0, 1, 2, 3}) {
      const auto ours = gradients(c.input, RetrieveOptions().fixed_steps(3).gradient(Gradient::last(k)), beta);
      const auto expected = detached_gradients(c.input, 3, k, beta);
      for (size_t i = 0; i < ours.size(); ++i)
        EXPECT_LT(max_difference(ours[i], expected[i]), 1e-13) << "k " << k << ", " << i;
    }
    const auto all = gradients(c.input, RetrieveOptions().fixed_steps(3), beta);
    const auto more = gradients(c.input, RetrieveOptions().fixed_steps(3).gradient(Gradient::last(4)), beta);
    for (size_t i = 0; i < all.size(); ++i) EXPECT_LT(max_difference(more[i], all[i]), 1e-13);
  }
}

TEST(LastGradient, CutsEachRowWhereItStopped) {
  const auto c = make_case(Layout::dense, MaskKind::none, true, 6, {2, 2, 3, 5, 4, 3});
  const auto beta = at::scalar_tensor(1.2, at::kDouble);
  const auto options = RetrieveOptions().until_converged().update_steps_eps(1e-2);
  const auto steps = retrieve(c.input, RetrieveOptions(options).beta(beta)).steps;
  ASSERT_GT((steps.max() - steps.min()).item<int64_t>(), 0);
  const auto ours = gradients(c.input, RetrieveOptions(options).gradient(Gradient::last(2)), beta);
  // The loss is on one row at a time, whose step count is known.
  auto expected = std::vector<at::Tensor>();
  const auto weight = randn({2, 2, 3, 3}, 99);
  for (int64_t n = 0; n < 2; ++n)
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t l = 0; l < 3; ++l) {
        const auto t = steps[n][h][l].item<int64_t>();
        auto start = retrieve(c.input, RetrieveOptions().beta(beta).fixed_steps(std::max<int64_t>(t - 2, 0))).state;
        std::vector<at::Tensor> leaves{start.clone().requires_grad_(true), c.input.stored.clone().requires_grad_(true),
                                       c.input.projection.clone().requires_grad_(true),
                                       beta.clone().requires_grad_(true)};
        const auto r = retrieve(RetrieveInput{leaves[0], leaves[1], leaves[2]},
                                RetrieveOptions().beta(leaves[3]).fixed_steps(std::min<int64_t>(t, 2)));
        const auto g =
            torch::autograd::grad({(r.output[n][h][l] * weight[n][h][l]).sum()}, leaves, {}, false, false, true);
        for (size_t i = 0; i < leaves.size(); ++i) {
          auto part = g[i].defined() ? g[i] : at::zeros_like(leaves[i]);
          if (i == 0 && t >= 2) part = at::zeros_like(part);
          if (expected.size() <= i)
            expected.push_back(part);
          else
            expected[i] = expected[i] + part;
        }
      }
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_LT(max_difference(ours[i], expected[i]), 1e-12) << i;
}

TEST(ImplicitGradient, EqualsUnrolledAtTheFixedPoint) {
  uint64_t seed = 0;
  for (const auto layout : {Layout::dense, Layout::heads_shared, Layout::all_shared, Layout::ragged}) {
    for (const auto mask : {MaskKind::none, MaskKind::key_bias}) {
      for (const bool of_state : {false, true}) {
        const auto c = make_case(layout, mask, true, seed += 10);
        const auto beta = at::tensor({0.3, 0.6}, at::kDouble);
        const auto options = RetrieveOptions().until_converged().update_steps_eps(1e-13).update_steps_cap(2000);
        ASSERT_TRUE(retrieve(c.input, RetrieveOptions(options).beta(beta)).converged.all().item<bool>());
        const auto unrolled = gradients(c.input, options, beta, of_state);
        const auto implicit =
            gradients(c.input, RetrieveOptions(options).gradient(Gradient::implicit()), beta, of_state);
        EXPECT_EQ(implicit[0].abs().max().item<double>(), 0);
        for (size_t i = 1; i < unrolled.size(); ++i) {
          // What is left is the unrolled gradient's own distance from the limit: its last terms shrink like the
          // residual.
          const double size = 1 + unrolled[i].abs().max().item<double>();
          EXPECT_LT(max_difference(implicit[i], unrolled[i]), 1e-8 * size) << c.name << " " << i << " " << size;
        }
      }
    }
  }
}

TEST(ImplicitGradient, FallsBackToTheLastUpdateForRowsThatDidNotConverge) {
  const auto c = make_case(Layout::dense, MaskKind::none, true, 8);
  const auto beta = at::scalar_tensor(0.5, at::kDouble);
  const auto options = RetrieveOptions().until_converged().update_steps_eps(1e-14).update_steps_cap(2);
  ASSERT_FALSE(retrieve(c.input, RetrieveOptions(options).beta(beta)).converged.any().item<bool>());
  const auto implicit = gradients(c.input, RetrieveOptions(options).gradient(Gradient::implicit()), beta);
  const auto last = gradients(c.input, RetrieveOptions(options).gradient(Gradient::last(1)), beta);
  for (size_t i = 0; i < last.size(); ++i) EXPECT_LT(max_difference(implicit[i], last[i]), 1e-13) << i;
}

TEST(ImplicitGradient, RefusesToBeDifferentiatedTwice) {
  const auto x = randn({1, 1, 2, 3}, 1).requires_grad_(true);
  const auto r = retrieve(x.detach(), x, RetrieveOptions().beta(0.5).until_converged().gradient(Gradient::implicit()));
  try {
    torch::autograd::grad({r.output.sum()}, {x}, {}, true, /*create_graph=*/true);
    FAIL();
  } catch (const std::exception& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("no second derivative"));
  }
}

TEST(GradientModes, DoNotChangeTheResult) {
  const auto c = make_case(Layout::dense, MaskKind::everything, true, 9);
  const auto options = RetrieveOptions().until_converged().with_energy();
  auto input = c.input;
  input.stored = input.stored.clone().requires_grad_(true);
  const auto unrolled = retrieve(input, options);
  for (const auto& gradient : {Gradient::last(1), Gradient::last(3), Gradient::implicit()}) {
    const auto other = retrieve(input, RetrieveOptions(options).gradient(gradient));
    EXPECT_LT(max_difference(other.output, unrolled.output), 1e-14);
    EXPECT_TRUE(bitwise_equal(other.steps, unrolled.steps));
  }
}

}  // namespace
}  // namespace hopfield
