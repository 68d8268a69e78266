#include "io/files.h"
#include "memory/patterns.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/memory/graded.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using hopfield::testing::expect_error;
using hopfield::testing::max_difference;
using hopfield::testing::randn;
using hopfield::testing::WrongCall;

constexpr double kPi = 3.14159265358979323846;
constexpr GainFunction kBoth[] = {GainFunction::tanh, GainFunction::arctan};

/// Symmetric, without a diagonal, of the size that makes potentials of about 1.
at::Tensor random_weights(int64_t d, uint64_t seed) {
  const auto rows = randn({d, d}, seed);
  return ((rows + rows.t()) / std::sqrt(2.0 * static_cast<double>(d))).fill_diagonal_(0.0);
}

at::Tensor positive(int64_t d, uint64_t seed) { return at::rand({d}, generator(seed), at::kDouble) + 0.5; }

/// The formulas of the gain functions, and of their inverses.
at::Tensor g(GainFunction function, double gain, const at::Tensor& v) {
  return function == GainFunction::tanh ? at::tanh(gain * v) : 2 / kPi * at::atan(kPi * gain * v / 2);
}
double inverse_of_g(GainFunction function, double gain, double output) {
  return function == GainFunction::tanh ? std::atanh(output) / gain : 2 / (kPi * gain) * std::tan(kPi * output / 2);
}

/// The energy of one state by its definition, with Simpson's rule for the integrals.
double naive_energy(GainFunction function, double gain, const at::Tensor& weights, const at::Tensor& resistance,
                    const at::Tensor& input, const at::Tensor& state) {
  double energy = -0.5 * state.matmul(weights).dot(state).item<double>() - input.dot(state).item<double>();
  constexpr int kIntervals = 2000;
  for (int64_t i = 0; i < state.size(0); ++i) {
    const double width = state[i].item<double>() / kIntervals;
    double integral = 0;
    for (int k = 0; k <= kIntervals; ++k) {
      const double factor = k == 0 || k == kIntervals ? 1 : (k % 2 == 1 ? 4 : 2);
      integral += factor * width / 3 * inverse_of_g(function, gain, k * width);
    }
    energy += integral / resistance[i].item<double>();
  }
  return energy;
}

/// An asynchronous network of two-valued neurons, until nothing changes. [d]
at::Tensor two_valued_rest(const at::Tensor& weights, at::Tensor state) {
  state = state.clone();
  for (bool changed = true; changed;) {
    changed = false;
    for (int64_t i = 0; i < state.size(0); ++i) {
      const double value = weights[i].dot(state).item<double>() >= 0 ? 1 : -1;
      changed = changed || value != state[i].item<double>();
      state[i] = value;
    }
  }
  return state;
}

bool every(const at::Tensor& mask) { return mask.all().item<bool>(); }

TEST(GradedNetwork, WeightsAreHebbsRuleAndPatternsCanBeForgotten) {
  const auto patterns = signs(5, 12, 1);
  GradedNetwork network;
  network.store(patterns.narrow(0, 0, 2));
  network.store(patterns[2]);
  network.store(patterns.narrow(0, 3, 2));
  const auto hebb = [](const at::Tensor& rows) { return (rows.t().matmul(rows) / 12).fill_diagonal_(0.0); };
  EXPECT_TRUE(bitwise_equal(network.weights(), hebb(patterns)));
  network.forget(at::tensor({3, 0}, at::kLong));
  EXPECT_TRUE(bitwise_equal(network.weights(), hebb(patterns.index_select(0, at::tensor({1, 2, 4}, at::kLong)))));
  network.forget(at::arange(3));
  network.store(patterns);
  EXPECT_TRUE(bitwise_equal(network.weights(), hebb(patterns)));
}

TEST(GradedNetwork, EnergyIsTheFormula) {
  const int64_t d = 5;
  const auto weights = random_weights(d, 1), resistance = positive(d, 2), input = randn({d}, 3);
  const auto states = randn({6, d}, 4).tanh() * 0.95;
  for (const auto function : kBoth) {
    for (const double gain : {0.7, 6.0}) {
      const GradedNetwork network(
          signs(1, d, 5),
          GradedOptions().gain(gain).gain_function(function).weights(weights).resistance(resistance).input(input));
      const auto energy = network.energy(states);
      for (int64_t row = 0; row < states.size(0); ++row) {
        const auto expected = naive_energy(function, gain, weights, resistance, input, states[row]);
        EXPECT_NEAR(energy[row].item<double>(), expected, 1e-7 * (1 + std::abs(expected)));
      }
    }
  }
}

TEST(GradedNetwork, EnergyIsExactNextToMinusOneAndOne) {
  // Without weights and inputs only the integral is left. At V = 1 that of artanh is ln 2.
  const auto energy = [](GainFunction function, double output) {
    const GradedNetwork network(at::ones({1, 1}, at::kDouble), GradedOptions().gain(1).gain_function(function).weights(
                                                                   at::zeros({1, 1}, at::kDouble)));
    return network.energy(at::full({1}, output, at::kDouble)).item<double>();
  };
  EXPECT_DOUBLE_EQ(energy(GainFunction::tanh, 1), std::log(2.0));
  EXPECT_DOUBLE_EQ(energy(GainFunction::tanh, -1), std::log(2.0));
  EXPECT_EQ(energy(GainFunction::arctan, 1), std::numeric_limits<double>::infinity());
  for (const double rest : {0x1p-10, 0x1p-30, 0x1p-50}) {
    // 1/2 [(2 - r) ln(2 - r) + r ln r], and -4 / pi^2 ln sin(pi r / 2), for the output 1 - r
    EXPECT_DOUBLE_EQ(energy(GainFunction::tanh, rest - 1),
                     0.5 * ((2 - rest) * std::log(2 - rest) + rest * std::log(rest)));
    EXPECT_DOUBLE_EQ(energy(GainFunction::arctan, 1 - rest), -4 / (kPi * kPi) * std::log(std::sin(kPi * rest / 2)));
  }
  EXPECT_EQ(energy(GainFunction::tanh, 0), 0);
  EXPECT_EQ(energy(GainFunction::arctan, 0), 0);
}

TEST(GradedNetwork, EnergyNeverRisesOnTheWayToRest) {
  const int64_t d = 20, rows = 12;
  std::vector<double> times;
  for (int i = 0; i <= 300; ++i) times.push_back(0.05 * i);
  for (const auto function : kBoth) {
    for (const double gain : {1.5, 10.0, 60.0}) {
      const GradedNetwork network(signs(1, d, 1), GradedOptions()
                                                      .gain(gain)
                                                      .gain_function(function)
                                                      .weights(random_weights(d, 2))
                                                      .resistance(positive(d, 3))
                                                      .time_constant(positive(d, 4))
                                                      .input(0.3 * randn({d}, 5)));
      const auto path = network.trajectory(randn({rows, d}, 6).tanh(), times);
      ASSERT_EQ(path.sizes(), at::IntArrayRef({301, rows, d}));
      ASSERT_TRUE(every(path.abs().le(1)));
      const auto energy = network.energy(path.view({-1, d})).view({301, rows});
      const auto rise = energy.diff(1, 0).amax(0);  // [rows]
      EXPECT_TRUE(every(rise.le(1e-10 * energy.abs().amax(0).clamp_min(1.0)))) << gain << rise;
      EXPECT_TRUE(every((energy[0] - energy[300]).gt(0.1)));  // they did move
    }
  }
}

TEST(GradedNetwork, StatesAtRestAreFixedPoints) {
  const int64_t d = 30;
  const auto weights = random_weights(d, 1), resistance = positive(d, 2), input = 0.2 * randn({d}, 3);
  for (const auto function : kBoth) {
    const auto options = GradedOptions()
                             .gain(5)
                             .gain_function(function)
                             .weights(weights)
                             .resistance(resistance)
                             .time_constant(positive(d, 4))
                             .input(input);
    const GradedNetwork network(signs(1, d, 5), options);
    const auto recall = network.retrieve(randn({20, d}, 6).tanh());
    EXPECT_TRUE(every(recall.converged));
    EXPECT_TRUE(every(recall.residual.lt(1e-8)));
    EXPECT_TRUE(every(recall.steps.gt(0)));
    const auto again = g(function, 5, resistance * (recall.state.matmul(weights) + input));
    EXPECT_LT(max_difference(again, recall.state), 1e-7);
    EXPECT_TRUE(bitwise_equal(recall.energy, network.energy(recall.state)));
    EXPECT_TRUE(bitwise_equal(recall.output, recall.state));
  }
}

TEST(GradedNetwork, OneNeuronChargesAsItsCircuitSays) {
  // Without weights, v(t) = R I + (v(0) - R I) exp(-t / (tau R)).
  const auto resistance = at::tensor({2.0, 0.5}, at::kDouble), tau = at::tensor({0.25, 3.0}, at::kDouble);
  const auto input = at::tensor({0.3, -0.7}, at::kDouble), query = at::tensor({0.5, 0.9}, at::kDouble);
  for (const auto function : kBoth) {
    const GradedNetwork network(at::ones({1, 2}, at::kDouble), GradedOptions()
                                                                   .gain(1.5)
                                                                   .gain_function(function)
                                                                   .weights(at::zeros({2, 2}, at::kDouble))
                                                                   .resistance(resistance)
                                                                   .time_constant(tau)
                                                                   .input(input));
    const std::vector<double> times{0, 0.2, 1, 4};
    const auto path = network.trajectory(query, times);
    ASSERT_EQ(path.sizes(), at::IntArrayRef({4, 2}));
    const auto start = at::tensor({inverse_of_g(function, 1.5, 0.5), inverse_of_g(function, 1.5, 0.9)}, at::kDouble);
    for (size_t i = 0; i < times.size(); ++i) {
      const auto potential =
          resistance * input + (start - resistance * input) * at::exp(-times[i] / (tau * resistance));
      EXPECT_LT(max_difference(path[i], g(function, 1.5, potential)), 1e-5);
    }
  }
}

TEST(GradedNetwork, PatternsAtTheLoadOfATwentiethComeBackFromTenPercentNoise) {
  const auto patterns = signs(10, 200, 1);
  for (const auto function : kBoth) {
    for (const auto type : {at::kDouble, at::kFloat}) {
      const GradedNetwork network(patterns.to(type), GradedOptions().gain_function(function));
      const auto noisy = flipped(patterns, 0.1, 2).to(type);
      const auto recall = network.retrieve(noisy);
      EXPECT_TRUE(every(recall.converged));
      EXPECT_TRUE(every(recall.matched));
      EXPECT_TRUE(recall.match.equal(at::arange(10)));
      EXPECT_TRUE(recall.state.sign().equal(patterns.to(type)));
      EXPECT_EQ(recall.state.scalar_type(), type);
      const auto one = network.retrieve(noisy[3]);
      EXPECT_EQ(one.match.item<int64_t>(), 3);
      EXPECT_LT(max_difference(one.state, recall.state[3]), 1e-4);
    }
  }
}

TEST(GradedNetwork, BelowTheCriticalGainNothingIsRemembered) {
  // At the origin an overlap m moves by tau dm/dt = (gain - 1) m for a single pattern and R = 1.
  const auto pattern = signs(1, 50, 1);
  const auto strength = [&](double gain) {
    return GradedNetwork(pattern, GradedOptions().gain(gain)).retrieve(pattern).state.abs().max().item<double>();
  };
  EXPECT_LT(strength(0.9), 1e-6);
  EXPECT_GT(strength(1.2), 0.5);
}

TEST(GradedNetwork, InTheLimitOfHighGainItIsTheNetworkOfTwoValuedNeurons) {
  const int64_t d = 40, rows = 20;
  const auto weights = random_weights(d, 1);
  const auto queries = signs(rows, d, 2);
  for (const auto function : kBoth) {
    const auto options = GradedOptions().gain(2000).gain_function(function).weights(weights);
    const GradedNetwork network(signs(1, d, 3), options);
    // The signs of each state at rest are a fixed point of two-valued neurons.
    const auto recall = network.retrieve(queries);
    EXPECT_TRUE(every(recall.converged));
    const auto at_rest = recall.state.sign();
    EXPECT_TRUE(every((at_rest * at_rest.matmul(weights)).gt(0)));
    EXPECT_LT(max_difference(recall.state, at_rest), 0.1);
    // Each fixed point of two-valued neurons has a state at rest next to it.
    std::vector<at::Tensor> fixed_points;
    for (int64_t row = 0; row < rows; ++row) fixed_points.push_back(two_valued_rest(weights, queries[row]));
    const auto expected = at::stack(fixed_points);
    EXPECT_TRUE(network.retrieve(expected).state.sign().equal(expected));
    // The integrals vanish from the energy as the gain grows.
    const GradedNetwork higher(signs(1, d, 3), GradedOptions(options).gain(1e12));
    const auto two_valued = -0.5 * (expected * expected.matmul(weights)).sum(-1);
    EXPECT_LT(max_difference(higher.energy(expected * (1 - 1e-9)), two_valued), 1e-6);
  }
}

TEST(GradedNetwork, UpdateStepsAreLimitedWhereAsked) {
  const auto patterns = signs(3, 60, 1);
  const GradedNetwork network(patterns);
  const auto noisy = flipped(patterns, 0.2, 2);
  const auto none = network.retrieve(noisy, RecallOptions().update_steps_max(0));
  EXPECT_LT(max_difference(none.state, noisy * (1 - 1e-3)), 1e-12);
  EXPECT_FALSE(none.converged.any().item<bool>());
  EXPECT_EQ(none.steps.max().item<int64_t>(), 0);
  const auto few = network.retrieve(noisy, RecallOptions().update_steps_max(4));
  EXPECT_FALSE(few.converged.any().item<bool>());
  EXPECT_LE(few.steps.max().item<int64_t>(), 4);
  const auto rough = network.retrieve(noisy, RecallOptions().update_steps_eps(1e-2));
  const auto exact = network.retrieve(noisy);
  EXPECT_TRUE(every(rough.converged) && every(rough.residual.le(1e-2 * (1 + 1e-9))));
  EXPECT_TRUE(every(exact.converged) && every(rough.steps.lt(exact.steps)));
}

TEST(GradedNetwork, IsSavedWithAllItHolds) {
  const io_test::TemporaryFolder folder;
  const auto path = folder.file("graded.safetensors");
  const auto patterns = randn({4, 9}, 1).tanh(), queries = randn({3, 9}, 2).tanh();
  auto ode = core::OdeOptions().rtol(1e-4).atol(1e-5).steps_max(500).first_step(0.01).max_step(0.7);
  const auto options = GradedOptions().gain(3.3).margin(0.01).resistance(1.7).input(randn({9}, 3)).ode(ode);
  for (const auto& each : {options, GradedOptions(options).gain_function(GainFunction::arctan),
                           GradedOptions(options).weights(random_weights(9, 4)).ode({})}) {
    GradedNetwork network(each);
    for (int64_t row = 0; row < 4; ++row) network.store(patterns[row]);
    network.save(path);
    const auto loaded = load(path);
    const auto& copy = dynamic_cast<GradedNetwork&>(*loaded);
    EXPECT_TRUE(bitwise_equal(copy.weights(), network.weights()));
    const auto a = network.retrieve(queries), b = copy.retrieve(queries);
    EXPECT_TRUE(bitwise_equal(a.state, b.state) && bitwise_equal(a.energy, b.energy) && a.steps.equal(b.steps));
    loaded->store(patterns[0]);
    EXPECT_EQ(loaded->size(), 5);
  }
}

TEST(GradedNetwork, RefusesWhatItCannotServe) {
  const auto patterns = signs(2, 3, 1);
  const auto with = [=](const GradedOptions& options) { return [=] { GradedNetwork(patterns, options); }; };
  const auto weights = random_weights(3, 2);
  const GradedNetwork network(patterns);
  const auto bad = at::full({2, 3}, 1.5, at::kDouble);
  const auto nan = std::nan("");
  for (const auto& wrong : std::vector<WrongCall>{
           {"no gain", with(GradedOptions().gain(0)), {"memory::GradedNetwork:", "gain", "got 0"}},
           {"margin", with(GradedOptions().margin(1)), {"margin", "got 1"}},
           {"time constant", with(GradedOptions().time_constant(0.0)), {"time_constant to be positive"}},
           {"resistance", with(GradedOptions().resistance(at::tensor({1.0, -1.0, 1.0}))), {"resistance", "positive"}},
           {"input", with(GradedOptions().input(nan)), {"input to be finite"}},
           {"size of the input", with(GradedOptions().input(at::zeros({4}))), {"input", "[3]", "[4]"}},
           {"shape of the input", with(GradedOptions().input(at::zeros({1, 3}))), {"input", "[1, 3]"}},
           {"type of the input", with(GradedOptions().input(at::zeros({3}, at::kLong))), {"floating-point", "Long"}},
           {"undefined input", with(GradedOptions().input(at::Tensor())), {"input", "undefined"}},
           {"size of the weights", with(GradedOptions().weights(random_weights(4, 2))), {"[3, 3]", "[4, 4]"}},
           {"type of the weights", with(GradedOptions().weights(weights.to(at::kFloat))), {"Double", "Float"}},
           {"asymmetric weights", with(GradedOptions().weights(weights.triu())), {"symmetric", "(W + W.t()) / 2"}},
           {"infinite weights", with(GradedOptions().weights(weights / 0)), {"finite weights"}},
           {"patterns out of range", [=] { GradedNetwork{bad}; }, {"patterns from -1 to 1"}},
           {"queries out of range", [&] { network.retrieve(bad); }, {"queries from -1 to 1"}},
           {"states out of range", [&] { network.energy(bad); }, {"states from -1 to 1"}},
           {"trajectory out of range",
            [&] {
              network.trajectory(bad, {0, 1});
            },
            {"queries from -1 to 1"}},
           {"trajectory of nothing",
            [&] {
              network.trajectory({}, {0, 1});
            },
            {"queries", "undefined"}},
           {"times",
            [&] {
              network.trajectory(patterns, {1, 0});
            },
            {"times", "later"}},
           {"threshold",
            [&] { network.retrieve(patterns, RecallOptions().update_steps_eps(0.0)); },
            {"update_steps_eps", "got 0"}},
           {"empty memory", [&] { GradedNetwork().retrieve(patterns); }, {"empty one"}},
       }) {
    expect_error(wrong);
  }
  GradedNetwork same(patterns);
  EXPECT_THROW(same.store(bad), c10::Error);
  EXPECT_EQ(same.size(), 2);
  EXPECT_TRUE(bitwise_equal(same.weights(), network.weights()));
}

TEST(GradedNetwork, RefusesFilesThatAreDamaged) {
  const io_test::TemporaryFolder folder;
  const auto path = folder.file("graded.safetensors");
  GradedNetwork(signs(2, 3, 1)).save(path);
  const auto file = io::load_safetensors(path);
  const auto damaged = [&](const std::function<void(io::SafetensorsFile&)>& damage) {
    auto copy = file;
    damage(copy);
    io::save_safetensors(path, copy.tensors, copy.metadata);
    return [=] { load(path); };
  };
  expect_error({"gain function",
                damaged([](auto& copy) { copy.metadata["gain_function"] = "relu"; }),
                {"tanh or arctan", "relu", path}});
  expect_error({"gain", damaged([](auto& copy) { copy.metadata["gain"] = "-1"; }), {"gain", "-1"}});
  expect_error({"no margin", damaged([](auto& copy) { copy.metadata.erase("margin"); }), {"'margin'", path}});
  expect_error({"width",
                damaged([](auto& copy) { copy.tensors["resistance"] = at::ones({4}, at::kDouble); }),
                {"resistance", "[4]"}});
  expect_error({"products",
                damaged([](auto& copy) {
                  copy.tensors["products"] = at::ones({2, 2}, at::kDouble);
                }),
                {"'products'", "[2, 2]", "[3, 3]", path}});
}

}  // namespace
}  // namespace hopfield::memory
