#include "core/separate.h"
#include "support/errors.h"
#include "support/gradcheck.h"
#include "support/naive.h"
#include "support/naive_separation.h"
#include <hopfield/core/energy.h>
#include <hopfield/core/update.h>

#include <torch/csrc/autograd/autograd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace hopfield::core {
namespace {

using testing::bitwise_equal;
using testing::max_difference;
using testing::naive_separate;
using testing::randn;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

const std::vector<Separation>& all_separations() {
  static const std::vector<Separation> all{Separation::softmax(),    Separation::softmax1(),   Separation::sparsemax(),
                                           Separation::entmax(1.05), Separation::entmax(1.25), Separation::entmax(1.5),
                                           Separation::entmax(1.7),  Separation::entmax(2)};
  return all;
}

std::vector<Separation> sparse_separations() {
  std::vector<Separation> sparse;
  for (const auto& separation : all_separations()) {
    if (separation.is_sparse()) sparse.push_back(separation);
  }
  return sparse;
}

at::Tensor row(const std::vector<double>& scores) { return at::tensor(scores, at::kDouble); }

struct Expected {
  at::Tensor weights, conjugate;
};

/// naive_separate() of each row of [rows, S].
Expected naive_rows(const at::Tensor& scores, const Separation& separation) {
  auto weights = at::empty_like(scores), conjugate = at::empty({scores.size(0)}, at::kDouble);
  for (int64_t i = 0; i < scores.size(0); ++i) {
    const auto numbers = scores[i].contiguous();
    const auto* first = numbers.data_ptr<double>();
    const auto found = naive_separate(std::vector<double>(first, first + numbers.numel()), separation);
    weights[i].copy_(row(found.weights));
    conjugate[i].fill_(found.conjugate);
  }
  return {weights, conjugate};
}

TEST(Separation, EqualsItsDefinition) {
  for (const auto& separation : all_separations()) {
    for (const int64_t keys : {1, 2, 3, 17, 300}) {
      for (const double scale : {1e-3, 0.3, 2.0, 20.0, 1e4}) {
        SCOPED_TRACE(to_string(separation) + c10::str(", ", keys, " keys, scale ", scale));
        const auto scores = scale * randn({4, keys}, static_cast<uint64_t>(keys));
        const auto expected = naive_rows(scores, separation);
        const auto weights = association(scores, separation);
        // Scores of that size are known to one part in 2^53 only.
        const double tolerance = 1e-14 + 1e-15 * scale;
        EXPECT_LT(max_difference(weights, expected.weights), tolerance);
        EXPECT_LT(max_difference(conjugate(scores, separation), expected.conjugate), tolerance * 20);
        if (separation.kind() != Separation::Kind::softmax1) {
          EXPECT_LT(max_difference(weights.sum(-1), at::ones({4}, at::kDouble)), 1e-14);
        }
      }
    }
  }
}

TEST(Separation, FloatsAreAsExactAsFloatsCanBe) {
  for (const auto& separation : all_separations()) {
    for (const int64_t keys : {3, 17, 3000}) {
      SCOPED_TRACE(to_string(separation) + c10::str(", ", keys, " keys"));
      const auto scores = (3 * randn({4, keys}, 5)).to(at::kFloat);
      const auto expected = naive_rows(scores.to(at::kDouble), separation);
      const auto weights = association(scores, separation);
      EXPECT_EQ(weights.scalar_type(), at::kFloat);
      EXPECT_LT(max_difference(weights, expected.weights), 2e-6);
      EXPECT_LT(max_difference(conjugate(scores, separation), expected.conjugate), 1e-5);
    }
  }
}

TEST(Separation, HalfPrecisionIsComputedInFloats) {
  for (const auto& separation : sparse_separations()) {
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      const auto scores = (3 * randn({4, 17}, 5)).to(type);
      const auto expected = association(scores.to(at::kFloat), separation).to(type);
      EXPECT_TRUE(bitwise_equal(association(scores, separation), expected)) << to_string(separation);
    }
  }
}

TEST(Separation, SparsemaxIsEntmaxOfTwo) {
  const auto scores = 2 * randn({5, 40}, 1);
  EXPECT_TRUE(bitwise_equal(association(scores, Separation::sparsemax()), association(scores, Separation::entmax(2))));
  EXPECT_TRUE(bitwise_equal(conjugate(scores, Separation::sparsemax()), conjugate(scores, Separation::entmax(2))));
}

TEST(Separation, SortingAndNewtonsMethodMeet) {
  // Beside 1.5 and 2 the threshold is found without sorting. The weights differ by no more than alpha does.
  for (const double alpha : {1.5, 2.0}) {
    const auto scores = 2 * randn({5, 400}, 1);
    const auto beside = association(scores, Separation::entmax(alpha - 1e-13));
    EXPECT_LT(max_difference(association(scores, Separation::entmax(alpha)), beside), 1e-12) << alpha;
    // Scores of all sizes keep Newton's method busy: each step drops some of them.
    for (const double ratio : {0.5, 0.8, 0.95}) {
      const auto shrinking = -at::pow(ratio, at::arange(400, at::kDouble)).unsqueeze(0);
      for (const auto& hard : {shrinking, shrinking.neg(), shrinking * 10, shrinking / 400}) {
        const auto near = association(hard, Separation::entmax(alpha - 1e-13));
        EXPECT_LT(max_difference(association(hard, Separation::entmax(alpha)), near), 1e-12) << alpha << " " << ratio;
        EXPECT_LT(max_difference(near, naive_rows(hard, Separation::entmax(alpha)).weights), 1e-12);
      }
    }
  }
}

TEST(Separation, EntmaxApproachesSoftmax) {
  const auto scores = 2 * randn({5, 40}, 1);
  for (const double distance : {1e-2, 1e-4, 1e-7, 1e-10, 1e-13}) {
    const auto near = Separation::entmax(1 + distance);
    EXPECT_LT(max_difference(association(scores, near), association(scores)), 10 * distance + 1e-14);
    EXPECT_LT(max_difference(conjugate(scores, near), logsumexp(scores)), 30 * distance + 1e-14);
  }
}

TEST(Separation, TiesShareTheWeight) {
  for (const auto& separation : sparse_separations()) {
    for (const int64_t keys : {1, 3, 64}) {
      const auto scores = at::full({2, keys}, 7.25, at::kDouble);
      EXPECT_LT(max_difference(association(scores, separation), at::full_like(scores, 1.0 / keys)), 1e-16);
    }
    const auto two = association(row({5, 5, -kInfinity, -1e300}), separation);
    EXPECT_TRUE(bitwise_equal(two, row({0.5, 0.5, 0, 0}))) << to_string(separation) << two;
  }
}

TEST(Separation, TakesScoresOfAnySize) {
  for (const auto& separation : all_separations()) {
    SCOPED_TRACE(to_string(separation));
    for (const double size : {1e4, 1e30, 1e300}) {
      EXPECT_TRUE(bitwise_equal(association(row({size, -size, size / 2}), separation), row({1, 0, 0})));
      EXPECT_EQ(conjugate(row({size, -size, size / 2}), separation).item<double>(), size);
      if (separation.kind() == Separation::Kind::softmax1) continue;
      EXPECT_TRUE(bitwise_equal(association(row({-size, -3 * size}), separation), row({1, 0})));
    }
    EXPECT_TRUE(bitwise_equal(association(row({1e300, -1e300}), separation), row({1, 0})));
  }
  EXPECT_TRUE(bitwise_equal(association(row({-1e4, -1e30}), Separation::softmax1()), row({0, 0})));
  EXPECT_EQ(conjugate(row({-1e4, -1e30}), Separation::softmax1()).item<double>(), 0);
}

TEST(Separation, NumbersThatAreNotFiniteSpoilTheirRowAsInSoftmax) {
  const auto scores =
      at::stack({row({1, kNaN, 2}), row({1, kInfinity, 2}), row({kInfinity, kInfinity, 0}), row({kNaN, -kInfinity, 0}),
                 row({-kInfinity, -kInfinity, -kInfinity}), row({-kInfinity, 3, 1})});
  for (const auto& separation : all_separations()) {
    SCOPED_TRACE(to_string(separation));
    const auto weights = association(scores, separation);
    EXPECT_TRUE(weights.slice(0, 0, 4).isnan().all().item<bool>()) << weights;
    EXPECT_TRUE(bitwise_equal(weights[4], at::zeros({3}, at::kDouble)));
    EXPECT_EQ(weights[5][0].item<double>(), 0);
    EXPECT_TRUE(at::isfinite(weights[5]).all().item<bool>());
    EXPECT_EQ(max_difference(conjugate(scores, separation).slice(0, 0, 5), logsumexp(scores).slice(0, 0, 5)), 0);
    EXPECT_EQ(association(at::zeros({2, 0}), separation).sizes(), at::IntArrayRef({2, 0}));
    EXPECT_TRUE(at::isneginf(conjugate(at::zeros({2, 0}), separation)).all().item<bool>());
    EXPECT_EQ(association(at::zeros({0, 3}), separation).sizes(), at::IntArrayRef({0, 3}));
  }
}

TEST(Separation, DeadRowsAndExcludedScoresHaveNoGradient) {
  for (const auto& separation : all_separations()) {
    auto scores = randn({3, 5}, 3);
    scores[1].fill_(-kInfinity);
    scores[2][3].fill_(-kInfinity);
    scores.requires_grad_(true);
    const auto loss = (association(scores, separation) * randn({3, 5}, 4)).sum();
    const auto finite = at::nan_to_num(conjugate(scores, separation), 0.0, 0.0, 0.0).sum();
    const auto gradient = torch::autograd::grad({loss + finite}, {scores})[0];
    EXPECT_TRUE(at::isfinite(gradient).all().item<bool>()) << to_string(separation) << gradient;
    EXPECT_EQ(gradient[1].abs().max().item<double>(), 0);
    EXPECT_EQ(gradient[2][3].item<double>(), 0);
  }
}

TEST(Separation, DerivativesAreRightToTheThirdOrder) {
  for (const auto& separation : all_separations()) {
    SCOPED_TRACE(to_string(separation));
    const auto both = [&](const std::vector<at::Tensor>& x) {
      return std::vector<at::Tensor>{association(x[0], separation), conjugate(x[0], separation)};
    };
    EXPECT_LT(testing::gradcheck(both, {randn({3, 6}, 1)}), 1e-8);
    EXPECT_LT(testing::gradgradcheck(both, {randn({3, 6}, 1)}), 1e-7);
    const auto gradient = [&](const std::vector<at::Tensor>& x) {
      const at::AutoGradMode grad_mode(true);
      const auto leaf = x[0].requires_grad() ? x[0] : x[0].detach().requires_grad_(true);
      const auto loss = association(leaf, separation).pow(3).sum();
      return torch::autograd::grad({loss}, {leaf}, {}, true, /*create_graph=*/true);
    };
    EXPECT_LT(testing::gradgradcheck(gradient, {0.7 * randn({2, 4}, 2)}), 1e-6);
  }
}

TEST(Separation, GradientOfTheConjugateIsTheAssociation) {
  for (const auto& separation : all_separations()) {
    const auto scores = (2 * randn({4, 30}, 1)).requires_grad_(true);
    const auto gradient = torch::autograd::grad({conjugate(scores, separation).sum()}, {scores})[0];
    EXPECT_LT(max_difference(gradient, association(scores, separation)), 1e-14) << to_string(separation);
  }
}

TEST(Separation, JacobianIsTheSparseOne) {
  for (const auto& separation : all_separations()) {
    SCOPED_TRACE(to_string(separation));
    // Spread over more than the margin, so that the support is not everything.
    const double spread = separation.is_sparse() ? 2 / (separation.alpha() - 1) : 2;
    const auto scores = (spread * randn({4, 30}, 1)).requires_grad_(true), direction = randn({4, 30}, 2);
    const auto weights = association(scores, separation);
    const auto product = torch::autograd::grad({weights}, {scores}, {direction}, true)[0];
    EXPECT_LT(max_difference(product, weights_derivative(weights.detach(), direction, separation)), 1e-14);
    if (!separation.is_sparse()) continue;
    EXPECT_GT(weights.eq(0).sum().item<int64_t>(), 0);
    EXPECT_EQ(product.masked_select(weights.eq(0)).abs().max().item<double>(), 0);
    // s_i = y_i^(2 - alpha) on the support, dt = s (g - <s, g> / sum s).
    const auto s = weights.detach().pow(2 - separation.alpha()).masked_fill(weights.detach().eq(0), 0.0);
    const auto mean = (s * direction).sum(-1, true) / s.sum(-1, true);
    EXPECT_LT(max_difference(product, s * (direction - mean)), 1e-14);
    const auto dead = weights_derivative(at::zeros({2, 3}), at::ones({2, 3}), separation);
    EXPECT_EQ(dead.abs().max().item<double>(), 0);
  }
}

// From |xi - x_i| <= eps, one update gives exactly x_i if the separation Delta_i of the pattern is at least
// m / beta + 2 M eps, with the margin m = 1 / (alpha - 1).
TEST(Separation, RetrievesExactlyInOneStepWhereTheMarginAllows) {
  for (const auto& separation : sparse_separations()) {
    if (separation.alpha() < 1.25) continue;
    SCOPED_TRACE(to_string(separation));
    const double margin = 1 / (separation.alpha() - 1), eps = 0.2;
    const auto stored = randn({20, 30}, 7);
    const auto products = stored.matmul(stored.t());
    const double largest = stored.norm(2, -1).max().item<double>();
    auto others = products.clone();
    others.fill_diagonal_(-kInfinity);
    const auto delta = products.diagonal() - std::get<0>(others.max(-1));  // [20]
    const auto noise = randn({20, 30}, 8);
    const auto state = stored + eps * noise / noise.norm(2, -1, true);
    int64_t qualified = 0, missed = 0;
    for (int64_t i = 0; i < 20; ++i) {
      const double room = delta[i].item<double>() - 2 * largest * eps;
      if (room <= 0) continue;
      ++qualified;
      const auto just_enough = at::scalar_tensor(margin / room * (1 + 1e-12), at::kDouble);
      const auto next = update(state.slice(0, i, i + 1), stored, just_enough, {}, separation);
      EXPECT_TRUE(bitwise_equal(next[0], stored[i])) << i;
      // From the pattern itself, a little less than the margin is not enough.
      const auto short_of = at::scalar_tensor(margin / delta[i].item<double>() * (1 - 1e-3), at::kDouble);
      const auto weights = association(scores(stored.slice(0, i, i + 1), stored, short_of), separation);
      missed += weights.gt(0).sum().item<int64_t>() > 1;
    }
    EXPECT_GE(qualified, 10);
    EXPECT_EQ(missed, qualified);
  }
}

TEST(SeparationEnergy, GradientIsStateMinusUpdate) {
  for (const auto& separation : all_separations()) {
    const auto stored = randn({1, 2, 6, 3}, 2), beta = at::tensor({0.4, 1.7}, at::kDouble).view({2, 1, 1});
    const auto state = randn({3, 2, 4, 3}, 1).requires_grad_(true);
    auto excluded = randn({3, 2, 4, 6}, 3) > 0.5;
    excluded.select(3, 0).fill_(false);
    const Masks masks{{}, excluded, randn({3, 6}, 4)};
    const auto gradient = torch::autograd::grad({energy(state, stored, beta, masks, separation).sum()}, {state})[0];
    EXPECT_LT(max_difference(gradient, state - update(state, stored, beta, masks, separation)), 1e-13)
        << to_string(separation);
  }
}

TEST(SeparationEnergy, FallsAtEveryUpdateAndStaysInItsBounds) {
  const auto stored = randn({2, 2, 20, 8}, 2);
  const double largest = stored.pow(2).sum(-1).max().item<double>();
  for (const auto& separation : all_separations()) {
    for (const double b : {0.03, 0.3, 1.0, 10.0}) {
      SCOPED_TRACE(to_string(separation) + c10::str(", beta ", b));
      const auto beta = at::scalar_tensor(b, at::kDouble);
      EXPECT_GE(energy(3 * randn({2, 2, 50, 8}, 9), stored, beta, {}, separation).min().item<double>(), -1e-12);
      auto state = update(randn({2, 2, 5, 8}, 1), stored, beta, {}, separation);  // in the hull from here on
      auto before = energy(state, stored, beta, {}, separation);
      double fallen = 0;
      for (int step = 0; step < 20; ++step) {
        EXPECT_GE(before.min().item<double>(), -1e-12);
        EXPECT_LE(before.max().item<double>(), 2 * largest);
        const auto next = update(state, stored, beta, {}, separation);
        const auto after = energy(next, stored, beta, {}, separation);
        // Each update lowers the energy by half of the squared step at least.
        const auto half_step = 0.5 * (next - state).pow(2).sum(-1);
        EXPECT_LE((after - before + half_step).max().item<double>(), 1e-11);
        fallen = std::max(fallen, (before - after).max().item<double>());
        state = next;
        before = after;
      }
      if (b == 0.3) {
        EXPECT_GT(fallen, 1e-3);
      }
    }
  }
}

TEST(SeparationEnergy, IsZeroWhereOnlyOnePatternIsStored) {
  const auto stored = randn({1, 3}, 2), beta = at::scalar_tensor(1.3, at::kDouble);
  for (const auto& separation : all_separations()) {
    if (separation.kind() == Separation::Kind::softmax1) continue;
    EXPECT_NEAR(energy(stored, stored, beta, {}, separation).item<double>(), 0, 1e-14) << to_string(separation);
  }
}

TEST(SeparationErrors, SayWhichAlphaIsExpected) {
  using ::testing::AllOf;
  using ::testing::HasSubstr;
  const auto x = randn({2, 3}, 1), beta = at::scalar_tensor(1.0, at::kDouble);
  for (const double alpha : {1.0, 0.5, 2.5, kNaN, -kInfinity, kInfinity}) {
    const auto wrong = Separation::entmax(alpha);
    const auto sentence = AllOf(HasSubstr("expected the alpha of separation entmax(alpha) to be above 1 and at most 2"),
                                HasSubstr(c10::str("got ", alpha)));
    EXPECT_THAT(testing::error_of([&] { association(x, wrong); }), sentence);
    EXPECT_THAT(testing::error_of([&] { conjugate(x, wrong); }), sentence);
    EXPECT_THAT(testing::error_of([&] { update(x, x, beta, {}, wrong); }), sentence);
    EXPECT_THAT(testing::error_of([&] { energy(x, x, beta, {}, wrong); }), sentence);
  }
}

}  // namespace
}  // namespace hopfield::core
