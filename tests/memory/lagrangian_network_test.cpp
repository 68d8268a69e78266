#include "memory/patterns.h"
#include "support/errors.h"
#include "support/gradcheck.h"
#include "support/naive.h"
#include <hopfield/memory/lagrangian_network.h>

#include <gtest/gtest.h>

#include <cmath>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::expect_error;
using hopfield::testing::gradcheck;
using hopfield::testing::max_difference;
using hopfield::testing::randn;
using hopfield::testing::WrongCall;

bool every(const at::Tensor& mask) { return mask.all().item<bool>(); }

at::Tensor positive(int64_t d, uint64_t seed) { return at::rand({d}, generator(seed), at::kDouble) + 0.5; }

/// All of the library's, for layers of 4 neurons.
std::vector<Lagrangian> all_lagrangians() {
  return {
      Lagrangian::log_sum_exp(1.7),   Lagrangian::power(1),           Lagrangian::power(3),
      Lagrangian::power(4),           Lagrangian::rectified_power(1), Lagrangian::rectified_power(2),
      Lagrangian::rectified_power(3), Lagrangian::absolute_value(),   Lagrangian::spherical_norm(),
      Lagrangian::quadratic(),        Lagrangian::log_cosh(2.5),      Lagrangian::layer_norm(1.3, 0.1, randn({4}, 1))};
}

at::Tensor gradient_of(const at::Tensor& value, const at::Tensor& x) {
  if (!value.requires_grad()) return at::zeros_like(x);
  const auto gradient = torch::autograd::grad({value.sum()}, {x}, {}, true, true, true)[0];
  return gradient.defined() ? gradient : at::zeros_like(x);
}

TEST(Lagrangian, ActivationsAndHessiansAreItsDerivatives) {
  const auto x = randn({6, 4}, 2).requires_grad_(), y = randn({6, 4}, 3);
  for (const auto& lagrangian : all_lagrangians()) {
    SCOPED_TRACE(lagrangian.name());
    const auto activation = lagrangian.activation(x);
    EXPECT_LT(max_difference(gradient_of(lagrangian.value(x), x), activation), 1e-14);
    const auto product = lagrangian.hessian_product(x, y);
    EXPECT_LT(max_difference(gradient_of((activation * y).sum(), x), product), 1e-13);
    const bool is_convex = lagrangian.name() != "power" || lagrangian.parameters().at("n") != 3;
    EXPECT_EQ(every((y * product).sum(-1).ge(-1e-14)), is_convex);
    if (lagrangian.is_idempotent()) {
      EXPECT_LT(max_difference(lagrangian.activation(activation), activation), 1e-15);
    }
  }
}

TEST(Lagrangian, IsFiniteWhereAFormulaWouldDivideByZeroOrOverflow) {
  const auto zero = at::zeros({1, 3}, at::kDouble).requires_grad_();
  for (const auto& lagrangian : {Lagrangian::absolute_value(), Lagrangian::spherical_norm()}) {
    EXPECT_TRUE(every(lagrangian.activation(zero).eq(0)));
    EXPECT_TRUE(every(at::isfinite(gradient_of(lagrangian.activation(zero).sum(), zero))));
  }
  const auto large = at::tensor({-1e4, 1e4}, at::kDouble).unsqueeze(0);
  EXPECT_NEAR(Lagrangian::log_cosh(2).value(large).item<double>(), 2e4 - std::log(2.0), 1e-9);
  EXPECT_DOUBLE_EQ(Lagrangian::log_sum_exp(2).value(large).item<double>(), 1e4);
}

TEST(Lagrangian, OfTheCallersWorksAsOneOfTheLibrarys) {
  const auto known = Lagrangian::log_cosh(1.5);
  const auto own = Lagrangian::own([&](const at::Tensor& x) { return known.value(x); },
                                   [&](const at::Tensor& x) { return known.activation(x); });
  const auto x = randn({5, 3}, 1), y = randn({5, 3}, 2);
  const at::NoGradGuard no_grad;
  EXPECT_LT(max_difference(own.hessian_product(x, y), known.hessian_product(x, y)), 1e-14);
  const auto weights = randn({4, 3}, 3);
  const LagrangianNetwork a(weights, LagrangianOptions().feature(own)), b(weights, LagrangianOptions().feature(known));
  const auto of_own = a.trajectory(x, {0, 1, 2}), of_known = b.trajectory(x, {0, 1, 2});
  EXPECT_LT(max_difference(of_own.v, of_known.v), 1e-14);
  EXPECT_TRUE(every(of_own.hessian_is_positive));
  const auto linear = Lagrangian::own([](const at::Tensor& z) { return z.sum(-1); },
                                      [](const at::Tensor& z) { return at::ones_like(z); });
  EXPECT_TRUE(every(linear.hessian_product(x, y).eq(0)));
}

TEST(LagrangianNetwork, EnergyIsTheFormula) {
  const auto xi = randn({4, 4}, 1), v = randn({5, 4}, 2), h = randn({5, 4}, 3), input = randn({4}, 4);
  for (const auto& feature : all_lagrangians()) {
    for (const auto& hidden : all_lagrangians()) {
      const LagrangianNetwork network(xi, LagrangianOptions().feature(feature).hidden(hidden).input(input));
      const auto g = feature.activation(v), f = hidden.activation(h);
      const auto energy = network.energy(v, h);
      for (int64_t row = 0; row < v.size(0); ++row) {
        double expected = (-feature.value(v)[row] - hidden.value(h)[row]).item<double>();
        for (int64_t i = 0; i < 4; ++i) {
          expected += ((v[row][i] - input[i]) * g[row][i] + h[row][i] * f[row][i]).item<double>();
          for (int64_t m = 0; m < 4; ++m) expected -= (f[row][m] * xi[m][i] * g[row][i]).item<double>();
        }
        EXPECT_NEAR(energy[row].item<double>(), expected, 1e-12 * (1 + std::abs(expected)));
      }
      const auto at_rest = network.energy(v, network.hidden_at_rest(v));
      EXPECT_LT(((network.energy(v) - at_rest) / at_rest.abs().clamp_min(1.0)).abs().max().item<double>(), 1e-12);
    }
  }
}

TEST(LagrangianNetwork, EnergyChangesAsTheHessiansSay) {
  const auto tau_f = positive(4, 1), tau_h = positive(3, 2);
  for (const auto& feature : all_lagrangians()) {
    const auto hidden = Lagrangian::log_sum_exp(1.3);
    const LagrangianNetwork network(randn({3, 4}, 3), LagrangianOptions()
                                                          .feature(feature)
                                                          .hidden(hidden)
                                                          .input(randn({4}, 4))
                                                          .feature_time_constant(tau_f)
                                                          .hidden_time_constant(tau_h));
    const auto v = randn({5, 4}, 5).requires_grad_(), h = randn({5, 3}, 6).requires_grad_();
    const auto motion = network.right_hand_side()(at::zeros({5, 1}, at::kDouble), at::cat({v, h}, 1)).detach();
    const auto dv = motion.narrow(1, 0, 4), dh = motion.narrow(1, 4, 3);
    const auto energy = network.energy(v, h);
    const auto rate = (gradient_of(energy, v) * dv).sum(-1) + (gradient_of(energy, h) * dh).sum(-1);
    const auto expected =
        -(tau_f * dv * feature.hessian_product(v, dv)).sum(-1) - (tau_h * dh * hidden.hessian_product(h, dh)).sum(-1);
    EXPECT_LT(max_difference(rate, expected), 1e-11) << feature.name();
  }
}

TEST(LagrangianNetwork, UpdateIsAnEulerStepOfTheFeatureNeurons) {
  const auto tau = positive(4, 1);
  const LagrangianNetwork network(
      randn({3, 4}, 2),
      LagrangianOptions().feature(Lagrangian::log_cosh(2)).feature_time_constant(tau).input(randn({4}, 3)));
  const auto v = randn({5, 4}, 4);
  const auto motion = network.right_hand_side()({}, at::cat({v, network.hidden_at_rest(v)}, 1));
  EXPECT_LT(max_difference(v + tau * motion.narrow(1, 0, 4), network.update(v)), 1e-14);
  EXPECT_LT(max_difference(network.updates(v, 3), network.update(network.update(network.update(v)))), 1e-15);
  EXPECT_LT(max_difference(network.updates(v, 0), v), 1e-15);
}

bool is_sum_over_neurons(const Lagrangian& lagrangian) {
  const auto& name = lagrangian.name();
  return name != "log_sum_exp" && name != "spherical_norm" && name != "layer_norm";
}

TEST(LagrangianNetwork, EnergyNeverRisesInTwoHundredRandomSystems) {
  // All of these have bounded energies: one of the two activations is bounded, and the other not above linear.
  const std::vector<Lagrangian> bounded = {Lagrangian::log_sum_exp(0.7), Lagrangian::log_sum_exp(4.0),
                                           Lagrangian::log_cosh(1.0),    Lagrangian::log_cosh(5.0),
                                           Lagrangian::spherical_norm(), Lagrangian::layer_norm(0.8, 0.1, 0.2)};
  auto features = bounded, hiddens = bounded;
  features.push_back(Lagrangian::quadratic());
  hiddens.push_back(Lagrangian::power(4));  // of outputs that are bounded
  hiddens.push_back(Lagrangian::rectified_power(3));
  const std::vector<double> few_times = {0, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 4, 6, 12};
  std::vector<double> many_times;
  for (int i = 0; i <= 150; ++i) many_times.push_back(0.1 * i);
  double largest_rise = -1e300, least_fall = 1e300;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const auto& feature = features[seed % features.size()];
    const auto is_linear = feature.name() == "quadratic";
    const auto& hidden = is_linear ? bounded[seed / 7 % bounded.size()] : hiddens[seed / 7 % hiddens.size()];
    const auto d = static_cast<int64_t>(2 + seed % 5), hidden_count = static_cast<int64_t>(2 + seed % 3);
    // Layers whose Lagrangian is not a sum over neurons need one time constant.
    const auto time_constants = [&](const Lagrangian& lagrangian, int64_t count, uint64_t seed_of_layer) {
      const auto times_of_all = positive(count, seed_of_layer);
      return is_sum_over_neurons(lagrangian) ? times_of_all : times_of_all[0].expand({count});
    };
    const LagrangianNetwork network(randn({hidden_count, d}, 10 * seed),
                                    LagrangianOptions()
                                        .feature(feature)
                                        .hidden(hidden)
                                        .input(0.3 * randn({d}, 10 * seed + 1))
                                        .feature_time_constant(time_constants(feature, d, 10 * seed + 2))
                                        .hidden_time_constant(time_constants(hidden, hidden_count, 10 * seed + 3)));
    const auto path = network.trajectory(randn({2, d}, 10 * seed + 4), randn({2, hidden_count}, 10 * seed + 5),
                                         seed % 10 == 0 ? many_times : few_times);
    ASSERT_EQ(path.last.failure, "") << seed;
    EXPECT_TRUE(every(path.hessian_is_positive)) << seed << path.promise;
    EXPECT_THAT(path.promise, ::testing::HasSubstr("does not rise"));
    const auto scale = path.energy.abs().amax(0).clamp_min(1.0);  // [2]
    largest_rise = std::max(largest_rise, (path.energy.diff(1, 0).amax(0) / scale).max().item<double>());
    least_fall = std::min(least_fall, (path.energy[0] - path.energy[-1]).min().item<double>());
  }
  EXPECT_LE(largest_rise, 1e-10);
  EXPECT_GT(least_fall, 0);  // they did move
}

TEST(LagrangianNetwork, EnergyRisesWithDifferentTimeConstantsOnlyWhereNothingIsPromised) {
  const std::vector<double> times = {0, 0.1, 0.25, 0.5, 1, 1.5, 2.5};
  int64_t risen = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const auto tau = at::tensor({0.1, 1.0, 5.0, 0.5}, at::kDouble);
    const LagrangianNetwork network(randn({3, 4}, 10 * seed), LagrangianOptions()
                                                                  .feature(Lagrangian::layer_norm(0.8, 0.1))
                                                                  .hidden(Lagrangian::log_cosh(1))
                                                                  .feature_time_constant(tau));
    const auto path = network.trajectory(randn({3, 4}, 10 * seed + 1), randn({3, 3}, 10 * seed + 2), times);
    const auto has_risen = path.energy.diff(1, 0).amax(0).gt(1e-10);  // [3]
    EXPECT_FALSE(has_risen.logical_and(path.hessian_is_positive).any().item<bool>());
    risen += has_risen.sum().item<int64_t>();
    if (every(path.hessian_is_positive)) continue;
    EXPECT_THAT(path.promise, ::testing::HasSubstr("different time constants"));
  }
  EXPECT_GT(risen, 0);
}

TEST(LagrangianNetwork, GradientOfTheEnergyVanishesAtRest) {
  for (const auto& feature : {Lagrangian::quadratic(), Lagrangian::log_cosh(1.5), Lagrangian::spherical_norm()}) {
    const LagrangianNetwork network(
        randn({3, 5}, 1),
        LagrangianOptions().feature(feature).hidden(Lagrangian::log_sum_exp(2)).input(0.1 * randn({5}, 2)));
    const auto rest = network.integrate(randn({4, 5}, 3), 200.0);
    ASSERT_EQ(rest.failure, "");
    const auto v = rest.v.requires_grad_(), h = rest.h.requires_grad_();
    EXPECT_LT(gradient_of(network.energy(v, h), v).abs().max().item<double>(), 1e-5) << feature.name();
    EXPECT_LT(gradient_of(network.energy(v, h), h).abs().max().item<double>(), 1e-5) << feature.name();
    EXPECT_LT(gradient_of(network.energy(v), v).abs().max().item<double>(), 1e-5) << feature.name();
  }
}

TEST(LagrangianNetwork, PromisesNothingWhereAHessianIsNegative) {
  const auto xi = -at::eye(3, at::kDouble), v = at::rand({2, 3}, generator(1), at::kDouble) + 0.5;
  const LagrangianNetwork odd(xi, LagrangianOptions().feature(Lagrangian::log_cosh(1)).hidden(Lagrangian::power(3)));
  for (const auto& path : {odd.trajectory(v, {0, 0.5, 1}), odd.update_trajectory(v, 2)}) {
    EXPECT_FALSE(path.hessian_is_positive.any().item<bool>());
    EXPECT_THAT(path.promise, ::testing::HasSubstr("Nothing is promised of the energy"));
    EXPECT_THAT(path.promise, ::testing::HasSubstr("hidden Lagrangian power"));
    EXPECT_THAT(path.promise, ::testing::HasSubstr("along the motion of row"));
  }
  // One of the rows only, and of the caller's own. -cosh is concave where cosh is convex.
  const auto own = Lagrangian::own([](const at::Tensor& x) { return x.pow(3).sum(-1) / 3; },
                                   [](const at::Tensor& x) { return x * x; });
  const LagrangianNetwork network(0.01 * at::eye(3, at::kDouble),
                                  LagrangianOptions().feature(own).hidden(Lagrangian::log_cosh(1)).input(0.1));
  const auto path =
      network.trajectory(at::stack({at::full({3}, 0.5, at::kDouble), at::full({3}, -0.5, at::kDouble)}), {0, 0.2});
  EXPECT_TRUE(path.hessian_is_positive.equal(at::tensor({1, 0}).to(at::kBool)));
  EXPECT_THAT(path.promise, ::testing::HasSubstr("feature Lagrangian own was negative along the motion of row 1"));
  EXPECT_GT((path.energy[1] - path.energy[0])[1].item<double>(), 0);  // and it does rise
  EXPECT_LT((path.energy[1] - path.energy[0])[0].item<double>(), 0);
}

TEST(LagrangianNetwork, SaysWhereTheSolverStoppedAndKeepsTheState) {
  const auto v = randn({2, 3}, 1);
  const auto xi = randn({4, 3}, 2);
  const auto options = LagrangianOptions()
                           .hidden_time_constant(1e-7)
                           .ode(core::OdeOptions().steps_max(200))
                           .hidden(Lagrangian::log_cosh(1));
  const LagrangianNetwork stiff(xi, options);
  const auto end = stiff.integrate(v, 1.0);
  const auto path = stiff.trajectory(v, {0, 1.0});
  for (const auto& state : {end, path.last}) {
    EXPECT_THAT(state.failure, ::testing::HasSubstr("expected row 0 to reach the time 1, but it got to "));
    EXPECT_THAT(state.failure, ::testing::HasSubstr("steps_max"));
    EXPECT_TRUE(every(state.time.gt(0).bitwise_and(state.time.lt(1))));
    EXPECT_TRUE(every(at::isfinite(state.v)) && every(at::isfinite(state.h)));
  }
  EXPECT_TRUE(every(path.v[1].isnan()));
  // An energy without a lower bound: states run to infinity within a finite time.
  const LagrangianNetwork unbounded(3 * at::eye(3, at::kDouble), LagrangianOptions().hidden(Lagrangian::power(4)));
  const auto runaway = unbounded.integrate(2 * at::ones({1, 3}, at::kDouble), 50.0);
  EXPECT_THAT(runaway.failure, ::testing::HasSubstr("to reach the time 50"));
  EXPECT_THAT(runaway.failure, ::testing::HasSubstr("infinity"));
  EXPECT_TRUE(every(at::isfinite(runaway.v)));
  const auto updates = unbounded.update_trajectory(2 * at::ones({1, 3}, at::kDouble), 12);
  EXPECT_THAT(updates.last.failure, ::testing::HasSubstr("after update "));
}

TEST(LagrangianNetwork, ServesNoQueriesToo) {
  const LagrangianNetwork network(randn({3, 2}, 1));
  const auto none = at::zeros({0, 2}, at::kDouble);
  EXPECT_EQ(network.updates(none, 2).sizes(), at::IntArrayRef({0, 2}));
  EXPECT_EQ(network.integrate(none, 1.0).failure, "");
  for (const auto& path : {network.trajectory(none, {0, 1}), network.update_trajectory(none, 1)}) {
    EXPECT_EQ(path.energy.sizes(), at::IntArrayRef({2, 0}));
    EXPECT_THAT(path.promise, ::testing::HasSubstr("does not rise"));
  }
}

TEST(LagrangianNetwork, IsDifferentiableInDiscreteAndInContinuousTime) {
  const std::vector<at::Tensor> inputs{randn({3, 4}, 1), randn({2, 4}, 2), 0.2 * randn({4}, 3)};
  const auto ode = core::OdeOptions().rtol(1).atol(1).first_step(0.25).max_step(0.25);
  for (const auto& feature : {Lagrangian::quadratic(), Lagrangian::log_cosh(1.2), Lagrangian::spherical_norm(),
                              Lagrangian::layer_norm(0.9, 0.1)}) {
    const auto error = gradcheck(
        [&](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
          const LagrangianNetwork network(
              in[0], LagrangianOptions().feature(feature).hidden(Lagrangian::log_sum_exp(1.5)).input(in[2]).ode(ode));
          const auto state = network.integrate(in[1], 0.6);
          return {network.updates(in[1], 3), state.v, state.h, network.energy(in[1]), network.energy(state.v, state.h)};
        },
        inputs);
    EXPECT_LT(error, 1e-7) << feature.name();
  }
}

TEST(LagrangianNetwork, RefusesWhatItCannotServe) {
  const auto xi = randn({3, 2}, 1), v = randn({4, 2}, 2), h = randn({4, 3}, 3);
  const LagrangianNetwork network(xi);
  const auto with = [=](const LagrangianOptions& options) { return [=] { LagrangianNetwork(xi, options).update(v); }; };
  const auto own = [](const Lagrangian::Function& value, const Lagrangian::Function& activation) {
    return LagrangianOptions().feature(Lagrangian::own(value, activation));
  };
  const auto sum = [](const at::Tensor& x) { return x.sum(-1); };
  const auto same = [](const at::Tensor& x) { return x; };
  const auto nan = std::nan("");
  for (const auto& wrong : std::vector<WrongCall>{
           {"beta", [] { Lagrangian::log_sum_exp(0); }, {"log_sum_exp", "beta to be positive", "got 0"}},
           {"infinite beta", [] { Lagrangian::log_sum_exp(1 / 0.0); }, {"beta", "inf"}},
           {"n", [] { Lagrangian::power(0); }, {"Lagrangian::power", "n to be at least 1", "got 0"}},
           {"rectified n", [] { Lagrangian::rectified_power(-2); }, {"rectified_power", "got -2"}},
           {"gain", [] { Lagrangian::log_cosh(-1); }, {"gain to be positive", "got -1"}},
           {"eps", [] { Lagrangian::layer_norm(1, 0); }, {"layer_norm", "eps", "got 0"}},
           {"gamma", [=] { Lagrangian::layer_norm(nan); }, {"gamma", "nan"}},
           {"delta", [=] { Lagrangian::layer_norm(1, 1, nan); }, {"delta to be finite"}},
           {"width of delta",
            with(LagrangianOptions().feature(Lagrangian::layer_norm(1, 1, randn({3}, 1)))),
            {"delta", "[2]", "[3]"}},
           {"no function", [=] { Lagrangian::own(sum, {}); }, {"activation", "empty function"}},
           {"size of the value",
            [=] { LagrangianNetwork(xi, own(same, same)).energy(v); },
            {"value of own", "[4]", "[4, 2]"}},
           {"size of the activation", with(own(sum, sum)), {"activation of own", "[4, 2]", "[4]"}},
           {"type of the activation",
            with(own(sum, [](const at::Tensor& x) { return x.to(at::kFloat); })),
            {"Double", "Float"}},
           {"undefined activation", with(own(sum, [](const at::Tensor&) { return at::Tensor(); })), {"undefined"}},
           {"feature time constant",
            with(LagrangianOptions().feature_time_constant(0.0)),
            {"feature_time_constant to be positive"}},
           {"hidden time constant",
            with(LagrangianOptions().hidden_time_constant(-1.0)),
            {"hidden_time_constant to be positive"}},
           {"size of a time constant",
            with(LagrangianOptions().hidden_time_constant(positive(2, 1))),
            {"hidden_time_constant", "[3]", "[2]"}},
           {"size of the input", with(LagrangianOptions().input(positive(3, 1))), {"input", "[2]", "[3]"}},
           {"input", with(LagrangianOptions().input(nan)), {"input to be finite"}},
           {"asymmetric weights", with(LagrangianOptions().backward_weights(2 * xi.t())), {"symmetric weights"}},
           {"size of backward weights", with(LagrangianOptions().backward_weights(xi)), {"[2, 3]", "[3, 2]"}},
           {"weights", [=] { LagrangianNetwork{v[0]}; }, {"weights [N_h, d]", "[2]"}},
           {"no weights", [] { LagrangianNetwork{at::Tensor()}; }, {"weights", "undefined"}},
           {"type of the weights", [=] { LagrangianNetwork{xi.to(at::kLong)}; }, {"Float or Double", "Long"}},
           {"weights that are no number", [=] { LagrangianNetwork{xi * nan}; }, {"finite weights"}},
           {"width of v", [&] { network.update(h); }, {"v [Q, 2]", "[4, 3]"}},
           {"type of v", [&] { network.update(v.to(at::kFloat)); }, {"Double", "Float"}},
           {"v that is no number", [&] { network.energy(v * nan); }, {"finite v"}},
           {"size of h", [&] { network.energy(v, v); }, {"h [4, 3]", "[4, 2]"}},
           {"h that is no number", [&] { network.energy(v, h * nan); }, {"finite h"}},
           {"count", [&] { network.updates(v, -1); }, {"number of updates", "got -1"}},
           {"time", [&] { network.integrate(v, -1.0); }, {"time", "got -1"}},
           {"times", [&] { network.trajectory(v, {1.0, 0.0}); }, {"times", "later"}},
       }) {
    expect_error(wrong);
  }
}

}  // namespace
}  // namespace hopfield::memory
