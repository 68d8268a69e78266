#include "memory/dense.h"
#include "memory/dense_updates.h"
#include "memory/patterns.h"
#include "support/naive.h"
#include <hopfield/memory/binary.h>
#include <hopfield/memory/polynomial.h>

#include <torch/types.h>

#include <gtest/gtest.h>

#include <cmath>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using hopfield::testing::max_difference;

__extension__ using Integer = __int128;

PolynomialOptions of(int64_t degree, bool rectified = false) {
  return PolynomialOptions().degree(degree).rectified(rectified);
}

RecallOptions at_once() { return RecallOptions().update(Update::synchronous).update_steps_max(1); }

double share(const at::Tensor& rows) { return rows.to(at::kDouble).mean().item<double>(); }

/// F(x), scaled by scale^n.
template <typename Number>
Number power(Number x, int64_t degree, bool rectified) {
  Number result = rectified && x < 0 ? 0 : 1;
  for (int64_t i = 0; i < degree; ++i) result *= x;
  return result;
}

/// Sets neurons in order to the value with the lower energy, by sum_i F(x_i.s / scale) for both values. They decide one
/// after the other, or all from the state before.
template <typename Number>
at::Tensor naive_update(const at::Tensor& patterns, const at::Tensor& states, const std::vector<int64_t>& order,
                        bool one_by_one, const PolynomialOptions& options, Number scale) {
  auto result = states.clone();
  const auto x = patterns.accessor<double, 2>();
  auto after = result.accessor<double, 2>();
  for (int64_t query = 0; query < states.size(0); ++query) {
    const auto decided_from = one_by_one ? result : states;
    const auto s = decided_from.accessor<double, 2>();
    for (const auto neuron : order) {
      Number difference = 0;
      for (int64_t i = 0; i < patterns.size(0); ++i) {
        int64_t others = 0;
        for (int64_t j = 0; j < patterns.size(1); ++j) {
          if (j != neuron) others += static_cast<int64_t>(x[i][j] * s[query][j]);
        }
        const auto own = static_cast<int64_t>(x[i][neuron]);
        difference +=
            power(static_cast<Number>(others + own) / scale, options.settings().degree, options.settings().rectified) -
            power(static_cast<Number>(others - own) / scale, options.settings().degree, options.settings().rectified);
      }
      if (difference != 0) after[query][neuron] = difference > 0 ? 1 : -1;
    }
  }
  return result;
}

std::vector<int64_t> all_neurons(int64_t neurons) {
  return detail::draw_sweep(RecallOptions().order(Order::fixed).settings(), neurons, 0).order;
}

TEST(PolynomialMemory, DecidesAsExactIntegersDo) {
  // 15^30 times the number of patterns is below 2^127.
  const auto patterns = signs(12, 15, 1), queries = at::cat({signs(40, 15, 2), flipped(patterns, 0.1, 3)});
  for (const int64_t degree : {2, 3, 4, 5, 10, 17, 29, 30}) {
    for (const bool rectified : {false, true}) {
      const auto options = of(degree, rectified);
      const PolynomialMemory memory(patterns, options);
      EXPECT_TRUE(bitwise_equal(memory.retrieve(queries, at_once()).state,
                                naive_update<Integer>(patterns, queries, all_neurons(15), false, options, 1)))
          << degree << rectified;
      const auto settings = RecallOptions().seed(4).update_steps_max(1);
      EXPECT_TRUE(
          bitwise_equal(memory.retrieve(queries, settings).state,
                        naive_update<Integer>(patterns, queries, detail::draw_sweep(settings.settings(), 15, 0).order,
                                              true, options, 1)))
          << degree << rectified;
    }
  }
}

TEST(PolynomialMemory, IsStableForManyNeuronsAndHighDegrees) {
  const auto patterns = signs(12, 10000, 1);
  const auto queries = at::cat({flipped(patterns.narrow(0, 0, 1), 0.2, 2),                      // near a pattern
                                (patterns[1] + patterns[2] + patterns[3]).sign().unsqueeze(0),  // between three
                                signs(1, 10000, 3)});                                           // far from all
  std::vector<int64_t> some_neurons(40);
  for (size_t i = 0; i < some_neurons.size(); ++i) some_neurons[i] = 249 * static_cast<int64_t>(i);
  for (const int64_t degree : {3, 10, 29, 30}) {
    const auto options = of(degree);
    const auto expected = naive_update<long double>(patterns, queries, some_neurons, false, options, 10000.0L);
    const auto index = at::tensor(some_neurons, at::kLong);
    const PolynomialMemory memory(patterns, options);
    EXPECT_TRUE(bitwise_equal(memory.retrieve(queries, at_once()).state.index_select(1, index),
                              expected.index_select(1, index)));
    const auto recall = memory.retrieve(queries);
    EXPECT_TRUE(bitwise_equal(recall.state[0], patterns[0]));
    EXPECT_TRUE(at::isfinite(recall.energy).all().item<bool>());
    EXPECT_NEAR(recall.energy[0].item<double>(), -10000.0 / static_cast<double>(degree), 1.0);
    EXPECT_TRUE(at::isfinite(PolynomialMemory(patterns.to(at::kFloat), options).energy(queries.to(at::kFloat)))
                    .all()
                    .item<bool>());
  }
}

TEST(PolynomialMemory, EqualsTheBinaryNetworkForDegreeTwo) {
  // Even numbers of neurons and patterns: many neurons feel no field.
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto patterns = signs(6, 12, 3, type), queries = signs(200, 12, 2, type);
    const PolynomialMemory memory(patterns, of(2));
    const BinaryNetwork network(patterns);
    const auto sums = patterns.t().mm(patterns);
    EXPECT_GT(share(queries.mm(sums - sums.diagonal().diag()) == 0), 0.05);
    EXPECT_LT(max_difference(memory.energy(queries) + 3, network.energy(queries)), type == at::kFloat ? 1e-5 : 1e-12);
    for (const auto update : {Update::asynchronous, Update::synchronous}) {
      for (const auto order : {Order::random, Order::fixed}) {
        for (const double temperature : {0.0, 0.7}) {
          for (const int64_t steps : {1, 2, 3, 10}) {
            const auto options =
                RecallOptions().update(update).order(order).seed(9).temperature(temperature).update_steps_max(steps);
            const auto expected = network.retrieve(queries, options), recall = memory.retrieve(queries, options);
            EXPECT_TRUE(bitwise_equal(recall.state, expected.state));
            EXPECT_TRUE(bitwise_equal(recall.steps, expected.steps));
            EXPECT_TRUE(bitwise_equal(recall.residual, expected.residual));
            EXPECT_TRUE(bitwise_equal(recall.period, expected.period));
          }
        }
      }
    }
  }
}

TEST(PolynomialMemory, NeverRaisesTheEnergyAtAnyUpdate) {
  const auto patterns = signs(40, 20, 1);
  for (const int64_t degree : {2, 3, 4, 7}) {
    for (const bool rectified : {false, true}) {
      const PolynomialMemory memory(patterns, of(degree, rectified));
      auto states = signs(50, 20, 2);
      const auto recall = memory.retrieve(states, RecallOptions().order(Order::fixed).update_steps_max(1));
      for (int64_t neuron = 0; neuron < 20; ++neuron) {
        auto other = states.clone();
        other.select(1, neuron).neg_();
        const auto before = memory.energy(states), after = memory.energy(other);
        const auto falls = after < before - 1e-9;
        states = at::where(falls.unsqueeze(-1), other, states);
      }
      EXPECT_TRUE(bitwise_equal(recall.state, states));
      EXPECT_TRUE(bitwise_equal(recall.energy, memory.energy(states)));
      EXPECT_TRUE(memory.retrieve(states).converged.all().item<bool>());
    }
  }
}

TEST(PolynomialMemory, TakesTheInverseOfAPatternForEvenDegreesOnly) {
  const auto patterns = signs(10, 100, 1);
  for (const int64_t degree : {3, 4}) {
    const PolynomialMemory memory(patterns, of(degree));
    EXPECT_EQ(bitwise_equal(memory.retrieve(-patterns).state, -patterns), degree == 4);
    EXPECT_EQ(bitwise_equal(memory.energy(-patterns), memory.energy(patterns)), degree == 4);
    EXPECT_TRUE(bitwise_equal(memory.retrieve(patterns).state, patterns));
  }
}

TEST(PolynomialMemory, HasTheKnownBitErrors) {
  // 0.5 % of the bits of K = alpha_n d^(n-1) patterns are wrong after one update, with alpha_n = 0.1507 / (2n-3)!!:
  // the noise of the other patterns is normal, of variance K (2n-3)!! d^(n-1).
  struct Load {
    int64_t degree, neurons, patterns, queries;
    int networks;
  };
  for (const auto& load : {Load{2, 2000, 301, 301, 1}, Load{3, 120, 723, 723, 40}, Load{4, 128, 21076, 1000, 1}}) {
    double wrong = 0.0;
    for (int seed = 0; seed < load.networks; ++seed) {
      const auto patterns = signs(load.patterns, load.neurons, 10 + seed, at::kFloat);
      const PolynomialMemory memory(patterns, of(load.degree));
      const auto queries = patterns.narrow(0, 0, load.queries);
      wrong += share(memory.retrieve(queries, at_once().with_match(false)).state != queries) / load.networks;
    }
    EXPECT_GT(wrong, 0.0045) << load.degree;
    EXPECT_LT(wrong, 0.0055) << load.degree;
  }
}

TEST(PolynomialMemory, CompositeMakesTheSameUpdates) {
  const auto patterns = signs(30, 21, 1, at::kFloat), queries = signs(20, 21, 2, at::kFloat);
  const auto columns = patterns.t().to(at::kChar).contiguous();
  const auto active = torch::tensor({1, 2, 5, 6, 19});
  for (const double temperature : {0.0, 0.5}) {
    for (const int64_t degree : {2, 3, 6, 30, 0}) {
      const auto interaction =
          degree == 0 ? detail::Interaction::exponential(21) : detail::Interaction::polynomial(21, degree, degree == 6);
      detail::DenseTile tile{interaction, patterns, columns, queries.clone(), detail::overlaps_of(queries, patterns)};
      detail::DenseTile other{interaction, patterns, columns, queries.clone(), detail::overlaps_of(queries, patterns)};
      for (int64_t step = 0; step < 3; ++step) {
        const auto sweep = detail::draw_sweep(RecallOptions().temperature(temperature).seed(3).settings(), 21, step);
        const auto changed = detail::update_in_order(tile, sweep, active);
        EXPECT_TRUE(bitwise_equal(changed, detail::update_in_order_composite(other, sweep, active)));
        EXPECT_TRUE(bitwise_equal(tile.states, other.states));
        EXPECT_TRUE(bitwise_equal(tile.overlaps, other.overlaps));
        EXPECT_TRUE(bitwise_equal(tile.overlaps, detail::overlaps_of(tile.states, patterns)));
        EXPECT_TRUE(bitwise_equal(tile.states[0], queries[0]));
        const auto energies = detail::energies_of(interaction, tile.overlaps);
        EXPECT_LT(
            max_difference(detail::energies_composite(interaction, tile.overlaps) / energies, at::ones_like(energies)),
            1e-13);
      }
    }
  }
}

}  // namespace
}  // namespace hopfield::memory
