#include "support/naive.h"
#include "support/retrieve_input.h"
#include <hopfield/core/bags.h>
#include <hopfield/core/update.h>
#include <hopfield/ops/retrieve.h>

#include <gtest/gtest.h>

namespace hopfield {
namespace {

using namespace testing;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(Retrieve, EqualsTheExplicitLoop) {
  const auto beta = at::tensor({0.8, 1.7}, at::kDouble);
  uint64_t seed = 0;
  for (const auto layout : kLayouts) {
    for (const auto mask : kMaskKinds) {
      for (const bool own_projection : {false, true}) {
        for (const int64_t steps : {0, 1, 3}) {
          const auto c = make_case(layout, mask, own_projection, seed += 10);
          SCOPED_TRACE(c.name + ", steps " + std::to_string(steps));
          const auto counts = at::full({3, 2, 2}, steps, at::kLong);
          const auto expected = naive_retrieve(c.state, c.stored, c.projection, beta, c.bias, counts);
          const auto r = retrieve(c.input, RetrieveOptions().beta(beta).fixed_steps(steps).with_energy().with_scores());
          EXPECT_LT(max_difference(r.output, expected.output), 1e-12);
          EXPECT_LT(max_difference(r.state, expected.state), 1e-12);
          EXPECT_LT(max_difference(r.logsumexp, expected.logsumexp), 1e-12);
          EXPECT_LT(max_difference(r.energy, expected.energy), 1e-12);
          const auto dead = expected.logsumexp.eq(-kInfinity);
          EXPECT_TRUE(bitwise_equal(r.steps, counts.masked_fill(dead, 0)));
          EXPECT_TRUE(r.converged.masked_select(dead).all().item<bool>());
          EXPECT_EQ(r.output.masked_select(dead.unsqueeze(-1)).abs().sum().item<double>(), 0);
          if (layout == Layout::ragged) continue;
          const auto p = (r.scores - r.logsumexp.unsqueeze(-1)).exp().masked_fill(dead.unsqueeze(-1), 0);
          EXPECT_LT(max_difference(p, expected.association), 1e-12);
        }
      }
    }
  }
}

TEST(Retrieve, DefaultsToOneAssociationWithBetaOfTheDepth) {
  const auto state = randn({2, 2, 3, 16}, 1), stored = randn({2, 2, 5, 16}, 2);
  const auto expected = at::softmax(state.matmul(stored.transpose(-2, -1)) / 4, -1).matmul(stored);
  const auto r = retrieve(state, stored);
  EXPECT_LT(max_difference(r.output, expected), 1e-14);
  EXPECT_TRUE(r.residual.isnan().all().item<bool>());
  EXPECT_FALSE(r.converged.any().item<bool>());
  EXPECT_FALSE(r.energy.defined());
  EXPECT_FALSE(r.scores.defined());
}

TEST(Retrieve, GivesBackTheDimensionsItGets) {
  const auto options = RetrieveOptions().update_steps_max(2).with_energy().with_scores();
  const auto state = randn({3, 1, 2, 4}, 1), stored = randn({3, 1, 5, 4}, 2);
  const auto four = retrieve(state, stored, options);
  const auto three = retrieve(state.squeeze(1), stored.squeeze(1), options);
  EXPECT_TRUE(bitwise_equal(three.output, four.output.squeeze(1)));
  EXPECT_EQ(three.scores.sizes(), at::IntArrayRef({3, 2, 5}));
  EXPECT_EQ(three.energy.sizes(), at::IntArrayRef({3, 2}));
  const auto two = retrieve(state[0][0], stored[0][0], options);
  EXPECT_LT(max_difference(two.output, four.output[0][0]), 1e-14);
  EXPECT_EQ(two.steps.sizes(), at::IntArrayRef({2}));
  EXPECT_EQ(two.scores.sizes(), at::IntArrayRef({2, 5}));

  RetrieveInput ragged{state.squeeze(1), stored.reshape({15, 4}), {}, {}, at::tensor({0, 5, 10, 15}, at::kLong)};
  const auto bags = retrieve(ragged, options);
  EXPECT_LT(max_difference(bags.output, three.output), 1e-14);
  EXPECT_EQ(bags.scores.sizes(), at::IntArrayRef({15, 2}));
}

TEST(Retrieve, MasksTakeEveryDocumentedShape) {
  const auto state = randn({2, 3, 4, 4}, 1), stored = randn({2, 3, 5, 4}, 2);
  const auto dense = [&](at::Tensor mask) { return retrieve(RetrieveInput{state, stored, {}, {{}, mask}}).output; };
  const auto mask = randn({4, 5}, 3);
  const auto full = dense(mask.expand({2, 3, 4, 5}).contiguous());
  EXPECT_TRUE(bitwise_equal(dense(mask), full));
  EXPECT_TRUE(bitwise_equal(dense(mask.view({1, 1, 4, 5})), full));
  EXPECT_TRUE(bitwise_equal(dense(mask.to(at::kFloat)), dense(mask.to(at::kFloat).to(at::kDouble))));
  const auto row = mask.slice(0, 0, 1);
  EXPECT_TRUE(bitwise_equal(dense(row.view({1, 1, 1, 5})), dense(row.expand({4, 5}))));
  const auto three = [&](at::Tensor m) {
    return retrieve(RetrieveInput{state.select(1, 0), stored.select(1, 0), {}, {{}, m}}).output;
  };
  EXPECT_TRUE(bitwise_equal(three(mask), three(mask.expand({2, 4, 5}))));
  const auto keys = randn({1, 5}, 4);
  RetrieveInput shared{state, stored, {}, {{}, {}, keys}}, own{state, stored, {}, {{}, {}, keys.expand({2, 5})}};
  EXPECT_TRUE(bitwise_equal(retrieve(shared).output, retrieve(own).output));
}

TEST(Retrieve, HeadsMayDifferInStepsThresholdAndBeta) {
  const auto state = randn({2, 3, 4, 4}, 1), stored = randn({2, 3, 5, 4}, 2);
  const std::vector<double> beta{0.5, 1.0, 2.0};
  const auto r =
      retrieve(state, stored, RetrieveOptions().beta(beta).update_steps_max({0, 2, 4}).update_steps_eps({0., 0., 0.}));
  for (int64_t h = 0; h < 3; ++h) {
    const auto one =
        retrieve(state.select(1, h), stored.select(1, h), RetrieveOptions().beta(beta[h]).fixed_steps(2 * h));
    EXPECT_LT(max_difference(r.output.select(1, h), one.output), 1e-14);
    EXPECT_TRUE(r.steps.select(1, h).eq(2 * h).all().item<bool>());
  }
  EXPECT_TRUE(r.residual.select(1, 0).isnan().all().item<bool>());
}

TEST(Retrieve, BagAloneEqualsBagInBatch) {
  const auto c = make_case(Layout::ragged, MaskKind::none, true, 7, {5, 2, 2, 9, 4, 3});
  const auto options = RetrieveOptions().fixed_steps(3).with_energy().with_scores();
  const auto all = retrieve(c.input, options);
  int64_t begin = 0;
  for (int64_t n = 0; n < 5; ++n) {
    const auto size = c.bag_sizes[n];
    const RetrieveInput bag{c.input.state.slice(0, n, n + 1),
                            c.input.stored.slice(0, begin, begin + size),
                            c.input.projection.slice(0, begin, begin + size),
                            {},
                            at::tensor({int64_t{0}, size}, at::kLong)};
    const auto alone = retrieve(bag, options);
    EXPECT_TRUE(bitwise_equal(alone.output, all.output.slice(0, n, n + 1)));
    EXPECT_TRUE(bitwise_equal(alone.scores, all.scores.slice(0, begin, begin + size)));
    begin += size;
  }
}

TEST(Retrieve, RaggedEqualsPaddedUnderBothStopRules) {
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    for (const auto mask : {MaskKind::none, MaskKind::key_bias}) {
      const auto c = make_case(Layout::ragged, mask, true, 9);
      const auto padding = BagBatch{c.input.stored, c.input.offsets, {}}.padded().padding_mask;
      RetrieveInput padded{c.state, c.stored, c.projection, {padding}};
      if (const auto& bias = c.input.masks.key_bias; bias.defined())
        padded.masks.key_bias = BagBatch{bias, c.input.offsets, {}}.padded().values;
      const auto options = RetrieveOptions().beta(2.0).until_converged().stop_rule(rule).with_energy().with_scores();
      const auto ragged = retrieve(c.input, options), dense = retrieve(padded, options);
      EXPECT_LT(max_difference(ragged.output, dense.output), 1e-12);
      EXPECT_LT(max_difference(ragged.energy, dense.energy), 1e-12);
      EXPECT_TRUE(bitwise_equal(ragged.steps, dense.steps));
      int64_t begin = 0;
      for (size_t n = 0; n < c.bag_sizes.size(); begin += c.bag_sizes[n++]) {
        const auto bag = ragged.scores.slice(0, begin, begin + c.bag_sizes[n]).permute({1, 2, 0});
        EXPECT_LT(max_difference(bag, dense.scores[n].slice(2, 0, c.bag_sizes[n])), 1e-12);
      }
    }
  }
}

TEST(Retrieve, StoredPatternComesBackAtLargeBeta) {
  const auto stored = randn({20, 64}, 1);
  const auto noisy = stored + 0.3 * randn({20, 64}, 2);
  const auto r = retrieve(noisy, stored, RetrieveOptions().beta(8.0).until_converged().with_energy());
  EXPECT_LT(max_difference(r.output, stored), 1e-9);
  EXPECT_TRUE(r.converged.all().item<bool>());
  EXPECT_LE(r.steps.max().item<int64_t>(), 3);
}

TEST(Retrieve, SharedPatternsAreNeverExpanded) {
  // If the patterns were expanded, they would have 2^40 numbers.
  const auto state = at::zeros({1, 1, 1, 4}).expand({1 << 12, 1 << 10, 1, 4});
  const auto stored = randn({1, 1, 1 << 18, 4}, 1).to(at::kFloat);
  const auto r = retrieve(state.slice(0, 0, 2).slice(1, 0, 2), stored);
  EXPECT_EQ(r.output.sizes(), at::IntArrayRef({2, 2, 1, 4}));
}

TEST(Retrieve, EveryDimensionMayBeZero) {
  const auto options = RetrieveOptions().update_steps_max(2).with_energy().with_scores();
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    for (int empty = 0; empty < 6; ++empty) {
      std::vector<int64_t> s{2, 3, 4, 5, 6, 7};  // N, H, L, S, d, d_v
      s[empty] = 0;
      auto state = at::zeros({s[0], s[1], s[2], s[4]}, at::kDouble).requires_grad_(true);
      auto stored = at::zeros({s[0], s[1], s[3], s[4]}, at::kDouble).requires_grad_(true);
      auto values = at::ones({s[0], s[1], s[3], s[5]}, at::kDouble).requires_grad_(true);
      auto with_rule = options;
      const auto r = retrieve(RetrieveInput{state, stored, values}, with_rule.stop_rule(rule));
      EXPECT_EQ(r.output.sizes(), at::IntArrayRef({s[0], s[1], s[2], s[5]}));
      EXPECT_EQ(r.logsumexp.sizes(), at::IntArrayRef({s[0], s[1], s[2]}));
      if (empty == 3) {
        EXPECT_EQ(r.output.abs().sum().item<double>(), 0);
      }
      r.output.sum().backward();
      EXPECT_EQ(state.grad().sizes(), state.sizes());
      EXPECT_TRUE(at::isfinite(values.grad()).all().item<bool>());
    }
  }
  RetrieveInput no_bags{at::zeros({0, 2, 1, 4}), at::zeros({0, 2, 4}), {}, {}, at::zeros({1}, at::kLong)};
  const auto r = retrieve(no_bags, options);
  EXPECT_EQ(r.output.sizes(), at::IntArrayRef({0, 2, 1, 4}));
  EXPECT_EQ(r.scores.sizes(), at::IntArrayRef({0, 2, 1}));
}

/// Largest and mean error of `ours` must stay within twice and 1.5 times that of the plain loop in the same precision.
TEST(Retrieve, IsAsExactAsThePlainLoopInTheSamePrecision) {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int64_t steps : {0, 1, 3}) {
      for (const double beta : {0.1, 1.0, 8.0}) {
        const auto state = randn({2, 2, 17, 32}, 1), stored = randn({2, 2, 33, 32}, 2),
                   values = randn({2, 2, 33, 8}, 3);
        const auto q = state.to(dtype), k = stored.to(dtype), v = values.to(dtype);
        const auto b = at::scalar_tensor(beta, at::kDouble);
        const auto plain = [&](const at::Tensor& x, const at::Tensor& y, const at::Tensor& z) {
          auto xi = x;
          for (int64_t step = 0; step < steps; ++step) xi = core::update(xi, y, b);
          return core::association(core::scores(xi, y, b)).matmul(z);
        };
        const auto reference = plain(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble));
        const auto ours = retrieve(RetrieveInput{q, k, v}, RetrieveOptions().beta(beta).fixed_steps(steps)).output;
        EXPECT_EQ(ours.scalar_type(), dtype);
        const auto error = [&](const at::Tensor& x) { return (x.to(at::kDouble) - reference).abs(); };
        const auto floor = error(((reference.to(dtype) + 0.3) - 0.3)).max().item<double>() * 2;
        const auto theirs = error(plain(q, k, v));
        EXPECT_LE(error(ours).max().item<double>(), 2 * theirs.max().item<double>() + floor);
        EXPECT_LE(error(ours).mean().item<double>(), 1.5 * theirs.mean().item<double>() + floor / 4);
      }
    }
  }
}

TEST(Retrieve, FusedBackendSaysWhyNot) {
  const auto x = randn({2, 2, 3, 4}, 1);
  const RetrieveInput input{x, x};
  const auto reason = why_not_fused(input);
  ASSERT_TRUE(reason);
  try {
    retrieve(input, RetrieveOptions().backend(Backend::fused));
    FAIL();
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find(*reason), std::string::npos);
  }
}

}  // namespace
}  // namespace hopfield
