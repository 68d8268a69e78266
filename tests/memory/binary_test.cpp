#include "memory/binary_updates.h"
#include "memory/patterns.h"
#include "support/naive.h"
#include <hopfield/memory/binary.h>

#include <torch/types.h>

#include <gtest/gtest.h>

#include <cmath>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using hopfield::testing::max_difference;
using hopfield::testing::randn;

constexpr LearningRule kRules[] = {LearningRule::hebb, LearningRule::storkey, LearningRule::pseudo_inverse};

BinaryOptions with(LearningRule rule, bool self_coupling = false) {
  return BinaryOptions().rule(rule).self_coupling(self_coupling);
}

double share(const at::Tensor& rows) { return rows.to(at::kDouble).mean().item<double>(); }

/// The weights of a network as its recalls use them, from the formulas alone.
detail::BinaryWeights weights_of(const BinaryNetwork& network) {
  return detail::exact_weights(network.weights(), network.thresholds(), 1.0);
}

detail::Sweep one_neuron(int64_t neuron, int64_t neurons) { return {{neuron}, std::vector<double>(neurons, 0.0)}; }

/// W by Storkey's rule as the paper has it, neuron by neuron.
at::Tensor naive_storkey(const at::Tensor& patterns) {
  const auto d = patterns.size(1);
  const auto x = patterns.accessor<double, 2>();
  auto weights = at::zeros({d, d}, at::kDouble);
  for (int64_t i = 0; i < patterns.size(0); ++i) {
    const auto old_weights = weights.clone();
    const auto w = old_weights.accessor<double, 2>();
    const auto field = [&](int64_t j, int64_t k) {
      double sum = 0.0;
      for (int64_t l = 0; l < d; ++l) sum += l == j || l == k ? 0.0 : w[j][l] * x[i][l];
      return sum;
    };
    auto next = weights.accessor<double, 2>();
    for (int64_t j = 0; j < d; ++j) {
      for (int64_t k = 0; k < d; ++k) {
        next[j][k] += (x[i][j] * x[i][k] - x[i][j] * field(k, j) - x[i][k] * field(j, k)) / static_cast<double>(d);
      }
    }
  }
  return weights;
}

at::Tensor without_diagonal(const at::Tensor& weights) { return weights - weights.diagonal().diag(); }

TEST(BinaryNetwork, LearnsByHebbsRule) {
  const auto patterns = signs(7, 20, 1);
  const auto expected = patterns.t().mm(patterns) / 20;
  EXPECT_LT(max_difference(BinaryNetwork(patterns, with(LearningRule::hebb, true)).weights(), expected), 1e-15);
  EXPECT_LT(max_difference(BinaryNetwork(patterns).weights(), without_diagonal(expected)), 1e-15);
}

TEST(BinaryNetwork, LearnsByStorkeysRule) {
  const auto patterns = signs(6, 13, 1);
  const auto expected = naive_storkey(patterns);
  EXPECT_LT(max_difference(BinaryNetwork(patterns, with(LearningRule::storkey, true)).weights(), expected), 1e-14);
  EXPECT_LT(max_difference(BinaryNetwork(patterns, with(LearningRule::storkey)).weights(), without_diagonal(expected)),
            1e-14);
  // At a load where hebb has lost most patterns.
  const auto many = signs(60, 300, 2, at::kFloat);
  const auto fixed = [&](LearningRule rule) {
    return share(BinaryNetwork(many, with(rule)).retrieve(many, RecallOptions().update_steps_max(1)).converged);
  };
  EXPECT_LT(fixed(LearningRule::hebb), 0.5);
  EXPECT_GT(fixed(LearningRule::storkey), 0.95);
}

TEST(BinaryNetwork, LearnsTheProjectionToThePatterns) {
  const auto patterns = signs(8, 30, 1);
  const auto weights = BinaryNetwork(patterns, with(LearningRule::pseudo_inverse, true)).weights();
  EXPECT_LT(max_difference(patterns.mm(weights), patterns), 1e-13);
  EXPECT_LT(max_difference(weights.mm(weights), weights), 1e-13);
  EXPECT_NEAR(weights.trace().item<double>(), 8, 1e-12);
  // A pattern twice, the inverse of one, and x_0 + x_1 - x_2 where that has no other values than -1 and 1: nothing new.
  auto dependent = at::cat({patterns, patterns.narrow(0, 0, 2), -patterns.narrow(0, 4, 1)});
  EXPECT_LT(max_difference(BinaryNetwork(dependent, with(LearningRule::pseudo_inverse, true)).weights(), weights),
            1e-13);
  auto four = signs(4, 30, 2);
  four[2] = at::where(four[0] == four[1], four[0], four[2]);
  four[3] = four[0] + four[1] - four[2];
  EXPECT_NEAR(BinaryNetwork(four, with(LearningRule::pseudo_inverse, true)).weights().trace().item<double>(), 3, 1e-12);
}

TEST(BinaryNetwork, KeepsCorrelatedPatternsByThePseudoInverse) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto patterns = flipped(signs(1, 200, 1, type).expand({100, 200}), 0.2, 2);  // alike in two thirds
    const BinaryNetwork network(patterns, with(LearningRule::pseudo_inverse));
    for (const auto update : {Update::asynchronous, Update::synchronous}) {
      const auto recall = network.retrieve(patterns, RecallOptions().update(update));
      EXPECT_TRUE(recall.converged.all().item<bool>());
      EXPECT_TRUE(bitwise_equal(recall.state, patterns));
    }
  }
  // With as many independent patterns as neurons, W is the identity: no state feels a field.
  const auto all = signs(40, 12, 3);
  const auto states = signs(20, 12, 4);
  EXPECT_TRUE(bitwise_equal(BinaryNetwork(all, with(LearningRule::pseudo_inverse)).retrieve(states).state, states));
}

/// Asynchronous sweeps as the definition has them.
at::Tensor naive_sweeps(const BinaryNetwork& network, const at::Tensor& queries, const RecallSettings& settings) {
  const auto states = queries.clone();
  const auto d = queries.size(1);
  for (int64_t step = 0; step < settings.update_steps_max; ++step) {
    const auto sweep = detail::draw_sweep(settings, d, step);
    for (int64_t query = 0; query < queries.size(0); ++query) {
      for (const auto neuron : sweep.order) {
        const auto field = (network.weights()[neuron].dot(states[query]) - network.thresholds()[neuron]).item<double>();
        if (std::abs(field) > 1e-12) states[query][neuron] = field > 0 ? 1 : -1;
      }
    }
  }
  return states;
}

TEST(BinaryNetwork, MakesTheUpdatesOfTheDefinition) {
  const auto patterns = signs(6, 24, 1), queries = signs(10, 24, 2);
  for (const auto rule : kRules) {
    for (const bool self_coupling : {false, true}) {
      BinaryNetwork network(patterns, with(rule, self_coupling));
      for (const bool has_thresholds : {false, true}) {
        if (has_thresholds) network.set_thresholds(0.1 * randn({24}, 3));
        for (const auto order : {Order::random, Order::fixed}) {
          for (const int64_t steps : {0, 1, 2, 5}) {
            const auto options = RecallOptions().order(order).seed(7).update_steps_max(steps);
            EXPECT_TRUE(bitwise_equal(network.retrieve(queries, options).state,
                                      naive_sweeps(network, queries, options.settings())));
          }
        }
        const auto fields = queries.mm(network.weights()) - network.thresholds();
        const auto expected = at::where(fields.abs() < 1e-12, queries, fields.sign());
        const auto once = network.retrieve(queries, RecallOptions().update(Update::synchronous).update_steps_max(1));
        EXPECT_TRUE(bitwise_equal(once.state, expected));
        const auto energy = -0.5 * (queries.mm(network.weights()) * queries).sum(-1) + queries.mv(network.thresholds());
        EXPECT_LT(max_difference(network.energy(queries), energy), 1e-12);
      }
    }
  }
}

TEST(BinaryNetwork, NeverRaisesTheEnergyAtAnyUpdate) {
  int64_t flips = 0;
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto patterns = signs(20, 60, 1, type);
    for (const auto rule : kRules) {
      BinaryNetwork network(patterns, with(rule));
      network.set_thresholds(0.1 * randn({60}, 3).to(type));
      const auto weights = weights_of(network);
      const auto states = signs(50, 60, 2, type), fields = detail::fields_of(weights, states);
      const auto active = at::arange(50);
      const auto energies = [&] { return detail::energies_of(weights, states, fields).to(at::kDouble); };
      for (int64_t update = 0; update < 180; ++update) {
        const auto before = energies(), field = fields.select(1, update % 60).to(at::kDouble);
        const auto changed = detail::update_in_order(weights, states, fields, active, one_neuron(update % 60, 60));
        // By exactly twice the field where the neuron has changed.
        const auto fall = before - energies();
        EXPECT_TRUE(fall.ge(0).all().item<bool>());
        EXPECT_LE(max_difference(fall, 2 * field.abs() * changed), type == at::kDouble ? 1e-13 : 1e-5);
        EXPECT_TRUE(bitwise_equal(fall > 0, changed > 0));
        flips += changed.sum().item<int64_t>();
      }
      EXPECT_TRUE(bitwise_equal(fields, detail::fields_of(weights, states)));
    }
  }
  EXPECT_GT(flips, 3000);
}

TEST(BinaryNetwork, SumsOfItsWeightsAreExact) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const auto rule : kRules) {
      BinaryNetwork network(signs(30, 101, 1, type), with(rule, true));
      network.set_thresholds(randn({101}, 3).to(type));
      const auto weights = weights_of(network);
      EXPECT_LT(max_difference(weights.couplings, network.weights()), type == at::kFloat ? 1e-6 : 1e-12);
      const auto states = signs(64, 101, 2, type);
      const auto fields = detail::fields_of(weights, states);
      // Any order of the sums gives the same bits.
      const auto order = at::randperm(101, generator(4));
      const auto sorted = weights.couplings.index_select(0, order);
      const auto shuffled_fields = states.index_select(1, order).mm(sorted) - weights.thresholds;
      EXPECT_TRUE(bitwise_equal(fields, shuffled_fields));
      EXPECT_TRUE(bitwise_equal(fields[5], detail::fields_of(weights, states.narrow(0, 5, 1))[0]));
    }
  }
  // Sums that need more digits than float32 has.
  const auto couplings = (at::rand({50, 50}, generator(5), at::kDouble) * 1e9).to(at::kFloat);
  const auto weights = detail::exact_weights(couplings + couplings.t(), at::zeros({50}), 1.0);
  const auto states = signs(20, 50, 6, at::kFloat);
  EXPECT_TRUE(bitwise_equal(detail::fields_of(weights, states).to(at::kDouble),
                            states.to(at::kDouble).mm(weights.couplings.to(at::kDouble))));
}

TEST(BinaryNetwork, CompositeMakesTheSameUpdates) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    BinaryNetwork network(signs(10, 40, 1, type), with(LearningRule::storkey));
    network.set_thresholds(0.1 * randn({40}, 3).to(type));
    const auto weights = weights_of(network);
    for (const double temperature : {0.0, 0.5}) {
      const auto settings = RecallOptions().temperature(temperature).seed(3).settings();
      const auto states = signs(20, 40, 2, type), fields = detail::fields_of(weights, states);
      const auto states_too = states.clone(), fields_too = fields.clone();
      const auto active = torch::tensor({1, 2, 5, 6, 19});
      for (int64_t step = 0; step < 3; ++step) {
        const auto sweep = detail::draw_sweep(settings, 40, step);
        const auto changed = detail::update_in_order(weights, states, fields, active, sweep);
        EXPECT_TRUE(
            bitwise_equal(changed, detail::update_in_order_composite(weights, states_too, fields_too, active, sweep)));
        EXPECT_TRUE(bitwise_equal(states, states_too));
        EXPECT_TRUE(bitwise_equal(fields, fields_too));
      }
    }
  }
}

TEST(BinaryNetwork, SynchronousUpdatesFindCyclesOfTwo) {
  // Two neurons that both want to be like the other.
  const BinaryNetwork pair(at::ones({1, 2}));
  const auto options = RecallOptions().update(Update::synchronous);
  const auto recall = pair.retrieve(torch::tensor({{1.0f, -1.0f}, {1.0f, 1.0f}}), options);
  EXPECT_TRUE(bitwise_equal(recall.period, torch::tensor({2, 1}))) << recall.period;
  EXPECT_TRUE(bitwise_equal(recall.converged, torch::tensor({false, true})));
  EXPECT_TRUE(bitwise_equal(recall.steps, torch::tensor({2, 1})));
  EXPECT_TRUE(bitwise_equal(recall.residual, at::tensor({2.0f, 0.0f})));

  const BinaryNetwork network(signs(20, 100, 1));
  const auto found = network.retrieve(signs(500, 100, 2), options);
  EXPECT_TRUE(found.period.gt(0).all().item<bool>());
  const auto cycles = found.state.index({found.period == 2});
  EXPECT_GT(cycles.size(0), 10);
  const auto updated = [&](int64_t steps) {
    return network.retrieve(cycles, RecallOptions().update(Update::synchronous).update_steps_max(steps)).state;
  };
  EXPECT_TRUE(bitwise_equal(updated(2), cycles));
  EXPECT_TRUE(updated(1).ne(cycles).any(-1).all().item<bool>());
  // One neuron at a time, there are none.
  EXPECT_TRUE(network.retrieve(signs(500, 100, 2)).converged.all().item<bool>());
}

TEST(BinaryNetwork, KeepsNeuronsWithoutAField) {
  const BinaryNetwork network(torch::tensor({{1.0, 1.0}, {1.0, -1.0}}));  // W = 0
  const auto states = torch::tensor({{1.0, 1.0}, {1.0, -1.0}, {-1.0, 1.0}, {-1.0, -1.0}});
  for (const auto update : {Update::asynchronous, Update::synchronous}) {
    const auto recall = network.retrieve(states, RecallOptions().update(update));
    EXPECT_TRUE(bitwise_equal(recall.state, states));
    EXPECT_TRUE(bitwise_equal(recall.steps, at::ones({4}, at::kLong)));
  }
}

TEST(BinaryNetwork, HasTheKnownCapacity) {
  // Hopfield 1982; theory: for d = 1,000, up to d / (4 ln d) = 36 patterns are all fixed points, and 92.4 % of 72.
  const auto fixed = [](int64_t count, uint64_t seed) {
    const auto patterns = signs(count, 1000, seed, at::kFloat);
    return share(BinaryNetwork(patterns).retrieve(patterns, RecallOptions().update_steps_max(1)).residual == 0);
  };
  double shares = 0.0;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    EXPECT_EQ(fixed(36, seed), 1.0);
    shares += fixed(72, 100 + seed) / 8;
  }
  EXPECT_GT(shares, 0.90);
  EXPECT_LT(shares, 0.95);
  // At a load of 0.1, 0.100 % of the bits of a retrieved pattern are wrong (Amit, Gutfreund, Sompolinsky 1985).
  const auto patterns = signs(200, 2000, 1, at::kFloat);
  const auto wrong = share(BinaryNetwork(patterns).retrieve(patterns).state != patterns);
  EXPECT_GT(wrong, 0.0007);
  EXPECT_LT(wrong, 0.0013);
}

TEST(BinaryNetwork, UpdatesByGlaubersDynamics) {
  // One pattern x, one synchronous update of a state with the overlap m: a neuron agrees with x afterwards with the
  // probability 1 / (1 + exp(-2 m / T)), but for its own contribution 1 / d to m.
  const auto pattern = at::ones({1, 2000});
  const BinaryNetwork network(pattern);
  auto state = pattern.clone();
  state.narrow(1, 0, 700).neg_();  // m = 0.3
  const double expected = 1.0 / (1.0 + std::exp(-2 * 0.3 / 0.5));
  double agreeing = 0.0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto options = RecallOptions().update(Update::synchronous).update_steps_max(1).temperature(0.5).seed(seed);
    const auto recall = network.retrieve(state, options);
    EXPECT_FALSE(recall.converged.item<bool>());
    EXPECT_EQ(recall.period.item<int64_t>(), 0);
    agreeing += share(recall.state == pattern) / 20;
  }
  EXPECT_NEAR(agreeing, expected, 4 * std::sqrt(expected * (1 - expected) / 40000));
  // In equilibrium m = tanh(m / T): .9575 at T = 0.5; above T = 1 nothing is remembered.
  const auto overlap = [&](double temperature) {
    const auto options = RecallOptions().update_steps_max(100).temperature(temperature).seed(1);
    return network.retrieve(pattern, options).state.mean().item<double>();
  };
  EXPECT_NEAR(overlap(0.5), 0.9575, 0.03);
  EXPECT_NEAR(overlap(1.5), 0.0, 0.15);
}

TEST(BinaryNetwork, SamplesTheBoltzmannDistribution) {
  BinaryNetwork network(
      torch::tensor({{1.0, 1.0, -1.0, 1.0}, {1.0, 1.0, 1.0, -1.0}, {-1.0, 1.0, 1.0, 1.0}}, at::kDouble));
  network.set_thresholds(torch::tensor({0.1, -0.2, 0.0, 0.3}, at::kDouble));
  const double temperature = 0.8;
  const auto powers = torch::tensor({1.0, 2.0, 4.0, 8.0});
  auto all = at::zeros({16, 4}, at::kDouble);
  for (int64_t i = 0; i < 16; ++i) {
    for (int64_t j = 0; j < 4; ++j) all[i][j] = (i >> j & 1) != 0 ? 1.0 : -1.0;
  }
  const auto expected = (-network.energy(all) / temperature).softmax(-1);

  const auto weights = weights_of(network);
  const auto states = at::ones({1, 4}, at::kDouble), fields = detail::fields_of(weights, states);
  const auto active = at::zeros({1}, at::kLong);
  const auto settings = RecallOptions().temperature(temperature).seed(5).settings();
  std::vector<double> counts(16, 0.0);
  constexpr int64_t kSweeps = 40000;
  const auto* const state = states.const_data_ptr<double>();
  for (int64_t step = 0; step < kSweeps; ++step) {
    detail::update_in_order(weights, states, fields, active, detail::draw_sweep(settings, 4, step));
    counts[(state[0] > 0 ? 1 : 0) + (state[1] > 0 ? 2 : 0) + (state[2] > 0 ? 4 : 0) + (state[3] > 0 ? 8 : 0)] += 1;
  }
  // Consecutive sweeps are correlated: about 4 standard deviations of a quarter as many independent samples.
  for (int64_t i = 0; i < 16; ++i) {
    const auto p = expected[i].item<double>();
    EXPECT_NEAR(counts[i] / kSweeps, p, 4 * std::sqrt(p * (1 - p) / (kSweeps / 4))) << i;
  }
}

TEST(BinaryNetwork, LearnsInPartsAndForgetsAsIfNeverStored) {
  const auto patterns = signs(12, 50, 1), queries = flipped(patterns, 0.2, 2);
  const auto rest = patterns.index_select(0, torch::tensor({1, 2, 3, 5, 6, 7, 8, 9, 10}));
  for (const auto rule : kRules) {
    for (const bool self_coupling : {false, true}) {
      BinaryNetwork network(with(rule, self_coupling));
      network.store(patterns.narrow(0, 0, 5));
      network.store(patterns[5]);
      network.store(patterns.narrow(0, 6, 6));
      EXPECT_TRUE(bitwise_equal(network.weights(), BinaryNetwork(patterns, with(rule, self_coupling)).weights()));
      const auto thresholds = 0.1 * randn({50}, 3);
      network.set_thresholds(thresholds);
      network.forget(torch::tensor({11, 0, 4}));
      BinaryNetwork never(rest, with(rule, self_coupling));
      EXPECT_TRUE(bitwise_equal(network.weights(), never.weights()));
      never.set_thresholds(thresholds);
      EXPECT_TRUE(bitwise_equal(network.retrieve(queries).state, never.retrieve(queries).state));
      // From nothing, all is new: the number of neurons too.
      network.forget(at::arange(9));
      network.store(signs(3, 20, 4));
      EXPECT_TRUE(bitwise_equal(network.thresholds(), at::zeros({20}, at::kDouble)));
      EXPECT_EQ(network.retrieve(signs(2, 20, 5)).state.size(1), 20);
    }
  }
}

}  // namespace
}  // namespace hopfield::memory
