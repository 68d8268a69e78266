#include "memory/patterns.h"
#include "support/naive.h"
#include <hopfield/memory/exponential.h>

#include <gtest/gtest.h>

#include <cmath>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using hopfield::testing::max_difference;

RecallOptions at_once() { return RecallOptions().update(Update::synchronous).update_steps_max(1); }

double share(const at::Tensor& rows) { return rows.to(at::kDouble).mean().item<double>(); }

/// Half of what the energy falls when a neuron goes from -1 to 1. [Q]
at::Tensor field_of(const at::Tensor& patterns, const at::Tensor& states, int64_t neuron) {
  const auto energy_with = [&](double value) {
    auto changed = states.clone();
    changed.select(1, neuron).fill_(value);
    return -at::logsumexp(changed.mm(patterns.t()), -1);
  };
  return 0.5 * (energy_with(-1.0) - energy_with(1.0));
}

TEST(ExponentialMemory, MakesTheUpdatesOfTheDefinition) {
  const auto patterns = signs(60, 16, 1), queries = signs(100, 16, 2);
  const ExponentialMemory memory(patterns);
  EXPECT_LT(max_difference(memory.energy(queries), -at::logsumexp(queries.mm(patterns.t()), -1)), 1e-12);

  auto together = queries.clone(), in_order = queries.clone();
  for (int64_t neuron = 0; neuron < 16; ++neuron) {
    const auto decided = [&](const at::Tensor& states) {
      const auto field = field_of(patterns, states, neuron);
      return at::where(field.abs() < 1e-12, states.select(1, neuron), field.sign());
    };
    together.select(1, neuron).copy_(decided(queries));
    const auto before = memory.energy(in_order);
    in_order.select(1, neuron).copy_(decided(in_order));
    EXPECT_TRUE((memory.energy(in_order) <= before + 1e-12).all().item<bool>());
  }
  EXPECT_TRUE(bitwise_equal(memory.retrieve(queries, at_once()).state, together));
  const auto sweep = memory.retrieve(queries, RecallOptions().order(Order::fixed).update_steps_max(1));
  EXPECT_TRUE(bitwise_equal(sweep.state, in_order));
  EXPECT_TRUE(bitwise_equal(sweep.energy, memory.energy(in_order)));
  EXPECT_TRUE(memory.retrieve(queries).converged.all().item<bool>());
}

TEST(ExponentialMemory, KeepsANeuronOnWhichTwoPatternsDisagree) {
  auto patterns = at::ones({2, 8}, at::kDouble);
  patterns[1][3] = -1;
  const ExponentialMemory memory(patterns);
  EXPECT_TRUE(bitwise_equal(memory.retrieve(patterns).state, patterns));
  EXPECT_TRUE(bitwise_equal(memory.retrieve(patterns, at_once()).state, patterns));
}

TEST(ExponentialMemory, DoesNotOverflow) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto patterns = signs(20, 10000, 1, type);
    const ExponentialMemory memory(patterns);
    const auto recall = memory.retrieve(at::cat({flipped(patterns, 0.3, 2), signs(2, 10000, 3, type)}));
    EXPECT_TRUE(bitwise_equal(recall.state.narrow(0, 0, 20), patterns));
    EXPECT_TRUE(recall.converged.all().item<bool>());
    EXPECT_TRUE(bitwise_equal(recall.energy.narrow(0, 0, 20), at::full({20}, -10000.0, patterns.options())));
    EXPECT_TRUE(at::isfinite(memory.energy(signs(5, 10000, 4, type))).all().item<bool>());
    // As far from all patterns as can be.
    const ExponentialMemory one(at::ones({1, 10000}, patterns.options()));
    EXPECT_EQ(one.energy(-one.patterns()).item<double>(), 10000.0);
    EXPECT_TRUE(bitwise_equal(one.retrieve(-one.patterns()).state, one.patterns()));
  }
}

TEST(ExponentialMemory, UpdatesByGlaubersDynamics) {
  // All neurons of all queries decide by the same random numbers: the states of many seeds, one update each.
  const auto patterns = signs(8, 10, 1), query = signs(1, 10, 2);
  const ExponentialMemory memory(patterns);
  for (const double temperature : {0.3, 1.0, 5.0}) {
    at::Tensor expected = at::empty({10}, at::kDouble), observed = at::zeros({10}, at::kDouble);
    for (int64_t neuron = 0; neuron < 10; ++neuron) {
      expected[neuron] = at::sigmoid(2 * field_of(patterns, query, neuron)[0] / temperature);
    }
    constexpr int kSeeds = 1000;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      const auto options = at_once().temperature(temperature).seed(seed).with_match(false);
      observed += (memory.retrieve(query, options).state[0] > 0) / static_cast<double>(kSeeds);
    }
    const auto deviation = (expected * (1 - expected) / kSeeds).sqrt();
    EXPECT_TRUE(((observed - expected).abs() <= 4 * deviation + 1e-9).all().item<bool>()) << observed << expected;
  }
}

TEST(ExponentialMemory, HasTheKnownCapacity) {
  // 2^(d/2) patterns of d = 32 neurons: 16 of 65,536 are unstable, those next to another one.
  const auto many = signs(65536, 32, 1, at::kFloat);
  const auto some = many.narrow(0, 0, 2000);
  const auto recall = ExponentialMemory(many).retrieve(some, at_once().with_match(false));
  EXPECT_GE(share(recall.residual == 0), 0.9995);
  // 5 wrong neurons of d = 48 are mended by one sweep.
  const auto patterns = signs(4096, 48, 2, at::kFloat);
  auto cues = patterns.clone();
  const auto wrong = at::rand({4096, 48}, generator(3)).argsort(int64_t{1}).narrow(1, 0, 5);
  cues.scatter_(1, wrong, -patterns.gather(1, wrong));
  const auto mended = ExponentialMemory(patterns).retrieve(cues, RecallOptions().update_steps_max(1).with_match(false));
  EXPECT_GE(share((mended.state == patterns).all(-1)), 0.999);
}

}  // namespace
}  // namespace hopfield::memory
