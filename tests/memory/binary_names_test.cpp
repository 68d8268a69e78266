#include "memory/patterns.h"
#include "support/naive.h"
#include <hopfield/memory/binary.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using ::testing::ElementsAre;

/// The state that a name describes.
at::Tensor state_of(const StateName& name, const at::Tensor& patterns) {
  auto sum = at::zeros({patterns.size(1)}, patterns.options());
  for (size_t i = 0; i < name.patterns.size(); ++i) sum += name.signs[i] * patterns[name.patterns[i]];
  return sum.sign();
}

TEST(NameState, NamesPatternsInversesAndMixtures) {
  const auto patterns = signs(30, 200, 1, at::kFloat);
  const BinaryNetwork network(patterns);
  const auto mixture = (patterns[3] - patterns[7] + patterns[20]).sign();
  const auto names = network.name_state(at::stack(
      {patterns[5], -patterns[8], mixture, -mixture, flipped(mixture, 0.02, 2), signs(1, 200, 3, at::kFloat)[0],
       (patterns[0] + patterns[1] + patterns[2] + patterns[3] + patterns[4]).sign()}));
  ASSERT_EQ(names.size(), 7);
  EXPECT_EQ(names[0].kind, StateKind::pattern);
  EXPECT_THAT(names[0].patterns, ElementsAre(5));
  EXPECT_THAT(names[0].signs, ElementsAre(1));
  EXPECT_EQ(names[1].kind, StateKind::inverse);
  EXPECT_THAT(names[1].patterns, ElementsAre(8));
  EXPECT_THAT(names[1].signs, ElementsAre(-1));
  EXPECT_EQ(names[2].kind, StateKind::mixture);
  EXPECT_THAT(names[2].patterns, ElementsAre(3, 7, 20));
  EXPECT_THAT(names[2].signs, ElementsAre(1, -1, 1));
  EXPECT_EQ(names[3].kind, StateKind::mixture);
  EXPECT_THAT(names[3].patterns, ElementsAre(3, 7, 20));
  EXPECT_THAT(names[3].signs, ElementsAre(-1, 1, -1));
  for (const size_t other : {4, 5, 6}) {
    EXPECT_EQ(names[other].kind, StateKind::spurious);
    EXPECT_TRUE(names[other].patterns.empty() && names[other].signs.empty());
  }
  EXPECT_EQ(network.name_state(patterns[4])[0].kind, StateKind::pattern);
}

TEST(NameState, FindsEveryMixtureOfFewNeurons) {
  // So few that patterns are alike, equal and inverse to each other, against all triples with all signs.
  int64_t mixtures = 0, others = 0;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const auto patterns = signs(5, 7, seed);
    auto states = at::zeros({128, 7}, at::kDouble);
    for (int64_t i = 0; i < 128; ++i) {
      for (int64_t j = 0; j < 7; ++j) states[i][j] = (i >> j & 1) != 0 ? 1.0 : -1.0;
    }
    auto is_mixture = at::zeros({128}, at::kBool);
    for (int64_t a = 0; a < 5; ++a) {
      for (int64_t b = a + 1; b < 5; ++b) {
        for (int64_t c = b + 1; c < 5; ++c) {
          for (int variant = 0; variant < 8; ++variant) {
            const StateName name{
                StateKind::mixture, {a, b, c}, {variant & 1 ? 1 : -1, variant & 2 ? 1 : -1, variant & 4 ? 1 : -1}};
            is_mixture |= states.eq(state_of(name, patterns)).all(-1);
          }
        }
      }
    }
    const auto overlaps = states.mm(patterns.t());
    const auto names = BinaryNetwork(patterns).name_state(states);
    for (int64_t i = 0; i < 128; ++i) {
      const auto& name = names[i];
      const auto expected = overlaps[i].max().item<double>() == 7    ? StateKind::pattern
                            : overlaps[i].min().item<double>() == -7 ? StateKind::inverse
                            : is_mixture[i].item<bool>()             ? StateKind::mixture
                                                                     : StateKind::spurious;
      EXPECT_EQ(name.kind, expected) << states[i];
      if (expected == StateKind::spurious) {
        ++others;
        continue;
      }
      mixtures += expected == StateKind::mixture ? 1 : 0;
      EXPECT_TRUE(bitwise_equal(state_of(name, patterns), states[i])) << states[i];
    }
  }
  EXPECT_GT(mixtures, 50);
  EXPECT_GT(others, 50);
}

}  // namespace
}  // namespace hopfield::memory
