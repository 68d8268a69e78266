// These tests compare causal calls (Masks::is_causal) with calls whose association mask says the same.

#include "support/allocations.h"
#include "support/close.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/core/energy.h>
#include <hopfield/core/update.h>
#include <hopfield/ops/pool.h>
#include <hopfield/ops/retrieve.h>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

#include <limits>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::expect_error;
using testing::max_difference;
using testing::peak_bytes;
using testing::randn;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Masks causal() { return {{}, {}, {}, true}; }
at::Tensor behind(int64_t queries, int64_t keys) { return at::ones({queries, keys}, at::kBool).triu(1); }

struct Case {
  int64_t batch, heads, queries, keys, depth, width;
  bool batch_shared = false, heads_shared = false;
};

RetrieveInput sample(const Case& c, at::ScalarType type, uint64_t seed) {
  RetrieveInput input;
  const auto batch = c.batch_shared ? 1 : c.batch, heads = c.heads_shared ? 1 : c.heads;
  const auto make = [&](at::IntArrayRef shape, uint64_t number) {
    return randn(shape, 10 * seed + number).to(type).requires_grad_(true);
  };
  input.state = make({c.batch, c.heads, c.queries, c.depth}, 1);
  input.stored = make({batch, heads, c.keys, c.depth}, 2);
  input.projection = make({batch, heads, c.keys, c.width}, 3);
  return input;
}

std::vector<at::Tensor> gradients(const RetrieveResult& r, const RetrieveInput& input) {
  const auto loss = (r.output * randn(r.output.sizes(), 77).to(r.output.options())).sum() +
                    0.5 * (r.state * randn(r.state.sizes(), 78).to(r.state.options())).sum() + 0.1 * r.logsumexp.sum();
  return torch::autograd::grad({loss}, {input.state, input.stored, input.projection});
}

// Fewer queries than keys and more of them, several tiles and chunks, few queries on patterns as they lie in memory.
const std::vector<Case>& cases() {
  static const std::vector<Case> all{{2, 2, 5, 5, 8, 8},
                                     {1, 2, 3, 9, 6, 10},
                                     {2, 1, 9, 4, 16, 16},
                                     {1, 2, 150, 150, 16, 16},
                                     {1, 1, 300, 1200, 16, 8},
                                     {1, 1, 700, 40, 8, 8},
                                     {3, 2, 70, 70, 16, 16, true},
                                     {2, 3, 33, 33, 16, 24, false, true},
                                     {2, 2, 20, 20, 8, 8, true, true}};
  return all;
}

TEST(Causal, IsTheMaskAboveTheDiagonal) {
  uint64_t seed = 1;
  for (const auto& c : cases()) {
    for (const auto& separation : {Separation::softmax(), Separation::softmax1(), Separation::entmax(1.5)}) {
      const auto options = RetrieveOptions().beta(0.8).fixed_steps(seed % 2 * 2).separation(separation);
      auto exact = sample(c, at::kDouble, ++seed);
      auto masked = exact;
      masked.masks.association_mask = behind(c.queries, c.keys);
      exact.masks = causal();
      const auto expected = retrieve(masked, RetrieveOptions(options).backend(Backend::composite));
      const auto composite = retrieve(exact, options);
      EXPECT_LT(max_difference(composite.output, expected.output), 1e-12);
      const auto expected_gradients = gradients(expected, masked);
      const auto found = gradients(composite, exact);
      for (size_t i = 0; i < found.size(); ++i) EXPECT_LT(max_difference(found[i], expected_gradients[i]), 1e-12);

      auto fast = sample(c, at::kFloat, seed);
      fast.masks = causal();
      const auto fused = retrieve(fast, RetrieveOptions(options).backend(Backend::fused));
      expect_close(fused.output, expected.output, "output");
      expect_close(fused.state, expected.state, "state");
      expect_close(fused.logsumexp, expected.logsumexp, "logsumexp");
      EXPECT_TRUE(fused.steps.equal(expected.steps));
      const auto fused_gradients = gradients(fused, fast);
      for (size_t i = 0; i < found.size(); ++i) {
        expect_close(fused_gradients[i], expected_gradients[i], "gradient " + std::to_string(i));
      }
    }
  }
}

TEST(Causal, WorksWithOtherMasksDropoutScoresAndBothStopRules) {
  const Case c{2, 2, 90, 90, 16, 16};
  auto padding = at::zeros({2, 90}, at::kBool);
  padding[1].slice(0, 60).fill_(true);
  padding[0][0] = true;  // the first query sees nothing then
  const auto bias = randn({2, 90}, 5).to(at::kFloat), added = randn({1, 1, 90, 90}, 6).to(at::kFloat);
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    auto options = RetrieveOptions().beta(1.2).update_steps_max(4).update_steps_eps(1e-3).stop_rule(rule);
    auto input = sample(c, at::kFloat, 3);
    auto masked = input;
    input.masks = {padding, added, bias, true};
    masked.masks = {padding, added.masked_fill(behind(90, 90), -INFINITY), bias};
    const auto a = retrieve(input, RetrieveOptions(options).backend(Backend::fused));
    const auto b = retrieve(masked, RetrieveOptions(options).backend(Backend::fused));
    const auto d = retrieve(input, RetrieveOptions(options).backend(Backend::composite));
    EXPECT_TRUE(a.steps.equal(b.steps));
    EXPECT_LT(max_difference(a.output, b.output), 1e-5);
    EXPECT_LT(max_difference(a.output, d.output), 1e-4);
    EXPECT_TRUE(a.output[0][0][0].eq(0).all().item<bool>());
  }
  auto plain = sample(c, at::kFloat, 4);
  for (auto* tensor : {&plain.state, &plain.stored, &plain.projection}) *tensor = tensor->detach();
  auto masked = plain;
  masked.masks.association_mask = behind(90, 90);
  plain.masks = causal();
  for (const auto& separation : {Separation::softmax(), Separation::sparsemax()}) {
    const auto scored = RetrieveOptions().with_scores().with_energy().fixed_steps(1).separation(separation);
    const auto a = retrieve(plain, RetrieveOptions(scored).backend(Backend::fused));
    const auto b = retrieve(masked, RetrieveOptions(scored).backend(Backend::composite));
    EXPECT_LT(max_difference(a.scores, b.scores), 1e-5);
    EXPECT_LT(max_difference(a.energy, b.energy), 1e-4);
  }
  const auto dropped = [&](const RetrieveInput& input, Backend backend) {
    return retrieve(input, RetrieveOptions().dropout(0.3).generator(at::detail::createCPUGenerator(9)).backend(backend))
        .output;
  };
  EXPECT_LT(max_difference(dropped(plain, Backend::fused), dropped(masked, Backend::composite)), 1e-5);
}

TEST(Causal, TheFutureDoesNotReachThePast) {
  // Whatever is stored behind a query, NaN included, leaves its result as it is, bit by bit.
  for (const auto type : {at::kFloat, at::kDouble}) {
    auto input = sample({1, 2, 60, 60, 16, 16}, type, 8);
    for (auto* tensor : {&input.state, &input.stored, &input.projection}) *tensor = tensor->detach();
    input.masks = causal();
    const auto options = RetrieveOptions().fixed_steps(2);
    const auto before = retrieve(input, options).output;
    for (const double spoilt : {7.0, kNaN, std::numeric_limits<double>::infinity()}) {
      auto changed = input;
      changed.stored = input.stored.clone();
      changed.projection = input.projection.clone();
      changed.stored.slice(2, 40).fill_(spoilt);
      changed.projection.slice(2, 40).fill_(spoilt);
      const auto after = retrieve(changed, options).output;
      if (std::isfinite(spoilt)) {
        EXPECT_TRUE(bitwise_equal(after.slice(2, 0, 40), before.slice(2, 0, 40)));
      } else {
        EXPECT_LT(max_difference(after.slice(2, 0, 40), before.slice(2, 0, 40)), 1e-6);
        EXPECT_TRUE(at::isnan(after.slice(2, 40)).all().item<bool>());
      }
    }
    // A bias that is not a number belongs to its key alone.
    auto biased = input;
    auto bias = at::zeros({1, 60}, input.state.options());
    bias[0][50] = kNaN;
    biased.masks.key_bias = bias;
    const auto after = retrieve(biased, options).output;
    EXPECT_LT(max_difference(after.slice(2, 0, 50), before.slice(2, 0, 50)), 1e-6);
    EXPECT_TRUE(at::isnan(after.slice(2, 50)).all().item<bool>());
  }
}

TEST(Causal, BagsHaveAnOrderOfTheirOwn) {
  const auto offsets = at::tensor({0, 3, 3, 90, 100}, at::kLong),
             state_offsets = at::tensor({0, 4, 6, 80, 90}, at::kLong);
  for (const auto type : {at::kDouble, at::kFloat}) {
    RetrieveInput input{randn({90, 2, 8}, 1).to(type), randn({100, 2, 8}, 2).to(type), randn({100, 2, 8}, 3).to(type)};
    input.offsets = offsets;
    input.state_offsets = state_offsets;
    input.masks = causal();
    const auto r = retrieve(input, RetrieveOptions().fixed_steps(1));
    for (int64_t n = 0; n < 4; ++n) {
      const auto rows = [n](const at::Tensor& tensor, const at::Tensor& bounds) {
        return tensor.slice(0, bounds[n].item<int64_t>(), bounds[n + 1].item<int64_t>()).transpose(0, 1).unsqueeze(0);
      };
      RetrieveInput bag{rows(input.state, state_offsets), rows(input.stored, offsets), rows(input.projection, offsets)};
      bag.masks = causal();
      const auto alone = retrieve(bag, RetrieveOptions().fixed_steps(1)).output;
      EXPECT_LT(max_difference(rows(r.output, state_offsets), alone), type == at::kFloat ? 1e-6 : 1e-12);
    }
  }
}

TEST(Causal, MakesNoMatrixOfQueriesAndKeys) {
  const int64_t length = 4096;
  RetrieveInput input{randn({1, 1, length, 32}, 1).to(at::kFloat).requires_grad_(true),
                      randn({1, 1, length, 32}, 2).to(at::kFloat).requires_grad_(true)};
  input.masks = causal();
  const auto bytes = peak_bytes(
      [&] { retrieve(input, RetrieveOptions().fixed_steps(2).backend(Backend::fused)).output.sum().backward(); });
  EXPECT_LT(bytes, length * length / 2);  // a mask of bytes would be twice that
}

TEST(Causal, CoreFunctionsAndGradientsKnowIt) {
  const auto state = randn({1, 2, 4, 3}, 1), stored = randn({1, 2, 6, 3}, 2);
  const auto beta = at::scalar_tensor(1.5, at::kDouble);
  const Masks masked{{}, behind(4, 6)};
  EXPECT_TRUE(core::scores(state, stored, beta, causal()).equal(core::scores(state, stored, beta, masked)));
  EXPECT_TRUE(core::update(state, stored, beta, causal()).equal(core::update(state, stored, beta, masked)));
  EXPECT_TRUE(core::energy(state, stored, beta, causal()).equal(core::energy(state, stored, beta, masked)));
  // The implicit gradient and that of the last update.
  for (const auto& gradient : {Gradient::implicit(), Gradient::last(1)}) {
    const auto of = [&](const Masks& masks, at::ScalarType type) {
      const auto leaf = stored.to(type).detach().requires_grad_(true);
      auto options = RetrieveOptions().beta(0.5).gradient(gradient).until_converged().update_steps_eps(1e-6);
      const auto r = retrieve({state.to(type), leaf, {}, masks}, options);
      return torch::autograd::grad({r.output.pow(2).sum()}, {leaf})[0];
    };
    EXPECT_LT(max_difference(of(causal(), at::kDouble), of(masked, at::kDouble)), 1e-12);
    EXPECT_LT(max_difference(of(causal(), at::kFloat), of(masked, at::kDouble)), 1e-4);
  }
}

TEST(Causal, PoolsRefuseIt) {
  expect_error({"pool",
                [] {
                  PoolInput input;
                  input.instances = at::zeros({2, 5, 4});
                  input.state = at::zeros({1, 1, 1, 3});
                  input.weight = at::zeros({1, 3, 4});
                  input.masks = causal();
                  pool(input, {});
                },
                {"hopfield::pool", "is_causal", "association_mask"}});
}

}  // namespace
}  // namespace hopfield
