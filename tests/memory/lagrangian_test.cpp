#include "io/files.h"
#include "memory/patterns.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/memory/continuous.h>
#include <hopfield/memory/kernel.h>
#include <hopfield/memory/lagrangian.h>
#include <hopfield/memory/polynomial.h>
#include <hopfield/ops/retrieve.h>

#include <gtest/gtest.h>

#include <cmath>

namespace hopfield::memory {
namespace {

using namespace memory_test;
using hopfield::testing::bitwise_equal;
using hopfield::testing::expect_error;
using hopfield::testing::max_difference;
using hopfield::testing::randn;
using hopfield::testing::WrongCall;

bool every(const at::Tensor& mask) { return mask.all().item<bool>(); }

at::Tensor relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs() / b.abs().clamp_min(1.0);
}

TEST(LagrangianMemory, ModelBIsTheUpdateOfRetrieve) {
  const auto patterns = randn({12, 7}, 1), queries = randn({9, 7}, 2);
  for (const double beta : {0.3, 1.0, 8.0}) {
    const LagrangianMemory memory(patterns, LagrangianOptions::model_b(beta));
    const auto options = RetrieveOptions().beta(beta);
    for (const int64_t count : {1, 3}) {
      const auto expected = hopfield::retrieve({queries, patterns}, RetrieveOptions(options).update_steps_max(count));
      EXPECT_LT(max_difference(memory.network().updates(queries, count), expected.state), 1e-12);
      const auto recall = memory.retrieve(queries, RecallOptions().update_steps_max(count));
      EXPECT_LT(max_difference(recall.state, expected.state), 1e-12);
      EXPECT_TRUE(every(recall.steps.le(count)));
    }
    const auto logsumexp = hopfield::retrieve({queries, patterns}, options).logsumexp;
    const auto energy = 0.5 * queries.pow(2).sum(-1) - logsumexp / beta;
    EXPECT_LT(max_difference(memory.energy(queries), energy), 1e-12);
  }
}

TEST(LagrangianMemory, ModelBRetrievesWhatTheContinuousMemoryRetrieves) {
  const auto patterns = sphere(20, 16, 1, 4.0), noisy = patterns + 0.3 * randn({20, 16}, 2);
  const auto expected = ContinuousMemory(patterns, ContinuousOptions().beta(2.0)).retrieve(noisy);
  for (const auto dynamics : {Dynamics::discrete, Dynamics::continuous}) {
    const LagrangianMemory memory(patterns, LagrangianOptions::model_b(2.0).dynamics(dynamics));
    const auto recall = memory.retrieve(noisy);
    EXPECT_TRUE(every(recall.converged) && every(recall.matched) && every(recall.period.eq(1)));
    EXPECT_TRUE(recall.match.equal(at::arange(20)));
    EXPECT_LT(max_difference(recall.state, expected.state), 1e-6);
    EXPECT_LT(recall.residual.max().item<double>(), 1e-6);
    EXPECT_TRUE(bitwise_equal(recall.energy, memory.energy(recall.state)));
    const auto one = memory.retrieve(noisy[3]);
    EXPECT_EQ(one.match.item<int64_t>(), 3);
    EXPECT_EQ(one.state.sizes(), at::IntArrayRef({16}));
  }
  const LagrangianMemory in_float(patterns.to(at::kFloat), LagrangianOptions::model_b(2.0));
  EXPECT_TRUE(in_float.retrieve(noisy.to(at::kFloat)).match.equal(at::arange(20)));
}

TEST(LagrangianMemory, ModelsAAndCHaveTheirEffectiveEnergies) {
  const auto patterns = signs(6, 10, 1), states = randn({15, 10}, 2);
  for (const int64_t n : {2, 4}) {
    const auto hidden = Lagrangian::power(n);
    const auto effective = [&](const at::Tensor& g) {
      return -g.matmul(patterns.t()).pow(n).sum(-1) / static_cast<double>(n);
    };
    const auto a = LagrangianMemory(patterns, LagrangianOptions::model_a(hidden)).energy(states);
    EXPECT_LT(relative_difference(a, effective(states.sign())).max().item<double>(), 1e-12);
    const auto c = LagrangianMemory(patterns, LagrangianOptions::model_c(hidden)).energy(states);
    EXPECT_LT(relative_difference(c, effective(states / states.norm(2, -1, true))).max().item<double>(), 1e-12);
  }
}

TEST(LagrangianMemory, UpdatesOfModelsAAndCDescendWhereTheDegreeIsEven) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto patterns = randn({7, 8}, seed), states = randn({30, 8}, 100 + seed);
    for (const int64_t n : {2, 4}) {
      for (const auto& options :
           {LagrangianOptions::model_a(Lagrangian::power(n)), LagrangianOptions::model_c(Lagrangian::power(n))}) {
        const LagrangianMemory memory(patterns, options);
        const auto path = memory.network().update_trajectory(states, 6);
        const auto rise = path.energy.diff(1, 0).amax(0);  // [Q]
        EXPECT_TRUE(every(rise.le(1e-10 * path.energy.abs().amax(0).clamp_min(1.0)))) << n;
        EXPECT_TRUE(every(path.hessian_is_positive));
        EXPECT_THAT(path.promise, ::testing::HasSubstr("does not rise"));
      }
    }
  }
}

TEST(LagrangianMemory, ModelAIsThePolynomialMemory) {
  // Energies differ by the factor d^(n-1) alone.
  const int64_t d = 40;
  const auto patterns = signs(8, d, 1), states = signs(25, d, 2);
  for (const int64_t n : {2, 3, 4}) {
    const LagrangianMemory memory(patterns, LagrangianOptions::model_a(Lagrangian::power(n)));
    const PolynomialMemory polynomial(patterns, PolynomialOptions().degree(n));
    const auto factor = std::pow(static_cast<double>(d), static_cast<double>(n - 1));
    EXPECT_LT(relative_difference(memory.energy(states) / factor, polynomial.energy(states)).max().item<double>(),
              1e-12);
  }
  // With n = 2, the parallel updates are the same but for each neuron's connection to itself, of the weight N, which
  // the polynomial memory lacks.
  const LagrangianMemory memory(patterns, LagrangianOptions::model_a(Lagrangian::power(2)));
  const auto once = RecallOptions().update(Update::synchronous).update_steps_max(1);
  const auto expected = PolynomialMemory(patterns, PolynomialOptions().degree(2)).retrieve(states, once).state;
  const auto fields = memory.network().update(states);
  const auto without_self = fields - 8 * states;
  EXPECT_TRUE(at::where(without_self.eq(0), states, without_self.sign()).equal(expected));
  const auto is_clear = fields.abs().gt(16);  // the connection cannot decide
  EXPECT_TRUE(fields.sign().eq(expected).logical_or(is_clear.logical_not()).all().item<bool>());
  EXPECT_GT(is_clear.sum().item<int64_t>(), 100);
  // At a low load both bring patterns back at once.
  const auto few = signs(5, 200, 3), noisy = flipped(few, 0.1, 4);
  for (const int64_t n : {2, 3, 4}) {
    const LagrangianMemory a(few, LagrangianOptions::model_a(Lagrangian::power(n)));
    const auto recall = a.retrieve(noisy);
    EXPECT_TRUE(recall.state.equal(few)) << n;
    EXPECT_TRUE(recall.match.equal(at::arange(5)) && every(recall.converged) && every(recall.residual.eq(0)));
    const PolynomialMemory polynomial(few, PolynomialOptions().degree(n));
    EXPECT_TRUE(polynomial.retrieve(noisy, once).state.equal(a.retrieve(noisy, once).state)) << n;
  }
}

TEST(LagrangianMemory, ModelARetrievesInContinuousTime) {
  const auto patterns = signs(4, 100, 1), noisy = flipped(patterns, 0.1, 2);
  for (const int64_t n : {2, 3, 4}) {
    for (const auto type : {at::kDouble, at::kFloat}) {
      const LagrangianMemory memory(patterns.to(type),
                                    LagrangianOptions::model_a(Lagrangian::power(n)).dynamics(Dynamics::continuous));
      const auto recall = memory.retrieve(noisy.to(type));
      EXPECT_TRUE(every(recall.converged) && recall.state.equal(patterns.to(type))) << n << type << recall.residual;
    }
  }
}

TEST(LagrangianMemory, ModelCComparesDirections) {
  const auto patterns = sphere(15, 30, 1, 5.0);
  const auto noisy = 0.01 * (patterns + 0.3 * randn({15, 30}, 2));
  for (const auto dynamics : {Dynamics::discrete, Dynamics::continuous}) {
    const LagrangianMemory memory(patterns, LagrangianOptions::model_c(Lagrangian::power(6)).dynamics(dynamics));
    const auto recall = memory.retrieve(noisy);
    EXPECT_TRUE(every(recall.converged) && recall.match.equal(at::arange(15)));
    EXPECT_LT(max_difference(recall.state.norm(2, -1), at::ones({15}, at::kDouble)), 1e-12);
    const auto best = memory.best_matches(noisy, 2);
    EXPECT_TRUE(best.indices.select(1, 0).equal(at::arange(15)));
    EXPECT_LE(best.values.max().item<double>(), 1 + 1e-12);
    EXPECT_TRUE(bitwise_equal(recall.energy, memory.energy(recall.state)));
  }
}

TEST(LagrangianMemory, PatternsCanBeAddedAndForgotten) {
  const auto patterns = randn({5, 6}, 1), queries = randn({3, 6}, 2);
  LagrangianMemory memory(LagrangianOptions::model_b(2.0));
  memory.store(patterns.narrow(0, 0, 2));
  memory.store(patterns[2]);
  memory.store(patterns.narrow(0, 3, 2));
  EXPECT_TRUE(bitwise_equal(memory.network().weights(), patterns));
  memory.forget(at::tensor({1, 3}, at::kLong));
  const auto kept = patterns.index_select(0, at::tensor({0, 2, 4}, at::kLong));
  EXPECT_TRUE(bitwise_equal(memory.network().weights(), kept));
  const LagrangianMemory same(kept, LagrangianOptions::model_b(2.0));
  EXPECT_TRUE(bitwise_equal(memory.retrieve(queries).state, same.retrieve(queries).state));
  // With weights of its own, patterns only say what came back.
  const auto xi = randn({4, 6}, 3);
  const LagrangianMemory given(patterns, LagrangianOptions::model_b(2.0).weights(xi).backward_weights(xi.t()));
  EXPECT_TRUE(bitwise_equal(given.network().weights(), xi));
  EXPECT_EQ(given.size(), 5);
}

TEST(LagrangianMemory, UpdateStepsAreLimitedWhereAsked) {
  const auto patterns = randn({6, 8}, 1), queries = randn({4, 8}, 2);
  for (const auto dynamics : {Dynamics::discrete, Dynamics::continuous}) {
    const LagrangianMemory memory(patterns, LagrangianOptions::model_b(0.5).dynamics(dynamics));
    const auto none = memory.retrieve(queries, RecallOptions().update_steps_max(0));
    EXPECT_TRUE(none.state.equal(queries) && every(none.steps.eq(0)));
    EXPECT_FALSE(none.converged.any().item<bool>());
    const auto few = memory.retrieve(queries, RecallOptions().update_steps_max(2));
    EXPECT_LE(few.steps.max().item<int64_t>(), 2);
    EXPECT_FALSE(few.converged.any().item<bool>());
    const auto rough = memory.retrieve(queries, RecallOptions().update_steps_eps(1e-2));
    const auto exact = memory.retrieve(queries);
    EXPECT_TRUE(every(rough.converged) && every(exact.converged) && every(rough.steps.lt(exact.steps)));
    EXPECT_TRUE(every(rough.residual.le(1e-2 * (1 + 1e-9))));
  }
}

TEST(LagrangianMemory, InputsShiftTheStateAtRest) {
  const auto patterns = randn({3, 5}, 1), input = randn({5}, 2), queries = randn({4, 5}, 3);
  const LagrangianMemory memory(patterns, LagrangianOptions::model_b(0.2).input(input));
  const auto state = memory.retrieve(queries).state;
  const auto expected = (0.2 * state.matmul(patterns.t())).softmax(-1).matmul(patterns) + input;
  EXPECT_LT(max_difference(state, expected), 1e-10);
}

TEST(LagrangianMemory, IsSavedWithAllItHolds) {
  const io_test::TemporaryFolder folder;
  const auto path = folder.file("lagrangian.safetensors");
  const auto patterns = randn({4, 6}, 1), queries = randn({3, 6}, 2);
  const auto ode = core::OdeOptions().rtol(1e-4).atol(1e-5).steps_max(500).first_step(0.01).max_step(0.7);
  const auto base = LagrangianOptions().hidden(Lagrangian::log_sum_exp(1.7));
  const std::vector<LagrangianOptions> all = {
      base,
      LagrangianOptions(base).dynamics(Dynamics::continuous).ode(ode),
      LagrangianOptions(base).feature(Lagrangian::absolute_value()).input(randn({6}, 3)),
      LagrangianOptions(base).feature(Lagrangian::spherical_norm()).input(0.25),
      LagrangianOptions(base).feature(Lagrangian::log_cosh(0.3)).weights(randn({5, 6}, 4)),
      LagrangianOptions(base).feature(Lagrangian::layer_norm(1.1, 0.2, randn({6}, 5))),
      LagrangianOptions(base).feature(Lagrangian::layer_norm(1.1, 0.2, 0.5)).hidden_time_constant(at::rand({4}) + 1),
      LagrangianOptions::model_a(Lagrangian::power(4)).feature_time_constant(2.0),
      LagrangianOptions::model_c(Lagrangian::rectified_power(3)),
  };
  for (const auto& options : all) {
    const LagrangianMemory memory(patterns, options);
    memory.save(path);
    const auto loaded = load(path);
    const auto& copy = dynamic_cast<LagrangianMemory&>(*loaded);
    const auto few = RecallOptions().update_steps_max(5);
    const auto a = memory.retrieve(queries, few), b = copy.retrieve(queries, few);
    EXPECT_TRUE(bitwise_equal(a.state, b.state) && bitwise_equal(a.energy, b.energy) && a.steps.equal(b.steps));
    const auto c = memory.network().trajectory(queries, {0, 0.3}), e = copy.network().trajectory(queries, {0, 0.3});
    EXPECT_TRUE(bitwise_equal(c.v, e.v) && bitwise_equal(c.energy, e.energy));
    EXPECT_EQ(copy.settings().hidden.name(), options.settings().hidden.name());
    EXPECT_EQ(copy.settings().ode.steps_max(), options.settings().ode.steps_max());
  }
}

TEST(LagrangianMemory, RefusesWhatItCannotServe) {
  const auto patterns = randn({3, 4}, 1), queries = randn({2, 4}, 2), xi = randn({5, 4}, 3);
  const auto with = [=](const LagrangianOptions& options) {
    return [=] { LagrangianMemory(patterns, options).retrieve(queries); };
  };
  const io_test::TemporaryFolder folder;
  const auto path = folder.file("lagrangian.safetensors"), other = folder.file("other.safetensors");
  const auto own =
      Lagrangian::own([](const at::Tensor& x) { return x.pow(2).sum(-1) / 2; }, [](const at::Tensor& x) { return x; });
  const LagrangianMemory memory(patterns);
  const auto nan = std::nan("");
  const auto runaway = LagrangianOptions().hidden(Lagrangian::power(80));
  for (const auto& wrong : std::vector<WrongCall>{
           {"empty memory", [&] { LagrangianMemory().retrieve(queries); }, {"LagrangianMemory: ", "empty one"}},
           {"network of an empty memory", [] { LagrangianMemory().network(); }, {"empty one"}},
           {"width", [&] { memory.retrieve(xi.narrow(1, 0, 3)); }, {"[Q, 4]", "[5, 3]"}},
           {"queries that are no number", [&] { memory.retrieve(queries * nan); }, {"finite queries"}},
           {"patterns that are no number", [=] { LagrangianMemory{patterns * nan}; }, {"finite patterns"}},
           {"feature time constant",
            [] { LagrangianMemory{LagrangianOptions().feature_time_constant(0.0)}; },
            {"LagrangianMemory: ", "feature_time_constant to be positive"}},
           {"hidden time constant",
            with(LagrangianOptions().hidden_time_constant(-2.0)),
            {"hidden_time_constant to be positive"}},
           {"size of a time constant",
            with(LagrangianOptions().hidden_time_constant(at::ones({4}))),
            {"hidden_time_constant", "[3]", "[4]"}},
           {"size of the input", with(LagrangianOptions().input(at::ones({3}))), {"input", "[4]", "[3]"}},
           {"size of the weights", with(LagrangianOptions().weights(xi.t())), {"[N_h, 4]", "[4, 5]"}},
           {"type of the weights", with(LagrangianOptions().weights(xi.to(at::kFloat))), {"Double", "Float"}},
           {"asymmetric weights",
            with(LagrangianOptions().weights(xi).backward_weights(xi.t() + 1)),
            {"symmetric weights", "transposed"}},
           {"threshold",
            [&] { memory.retrieve(queries, RecallOptions().update_steps_eps(-1.0)); },
            {"update_steps_eps", "got -1"}},
           {"states without bounds",
            [=] { LagrangianMemory(100 * patterns, runaway).retrieve(100 * queries); },
            {"expected finite states", "after update"}},
           {"own Lagrangian",
            [=] { LagrangianMemory(patterns, LagrangianOptions().feature(own)).save(path); },
            {"feature Lagrangian", "the caller's own"}},
       }) {
    expect_error(wrong);
  }
  memory.save(path);
  const auto file = io::load_safetensors(path);
  const auto damaged = [&](const std::function<void(io::SafetensorsFile&)>& damage) {
    auto copy = file;
    damage(copy);
    io::save_safetensors(other, copy.tensors, copy.metadata);
    return [=] { load(other); };
  };
  expect_error({"another kind",
                damaged([](auto& copy) { copy.metadata["hopfield.memory"] = "Abacus"; }),
                {"one of BinaryNetwork", "LagrangianMemory", "got 'Abacus'"}});
  expect_error({"a file of the kernel memory that claims to be one",
                [&] {
                  KernelMemory(patterns).save(other);
                  auto copy = io::load_safetensors(other);
                  copy.metadata["hopfield.memory"] = "LagrangianMemory";
                  io::save_safetensors(other, copy.tensors, copy.metadata);
                  load(other);
                },
                {"'feature'", other}});
  expect_error({"unknown Lagrangian",
                damaged([](auto& copy) { copy.metadata["hidden"] = "own"; }),
                {"'hidden'", "log_sum_exp", "got 'own'"}});
  expect_error({"beta", damaged([](auto& copy) { copy.metadata["hidden.beta"] = "-1"; }), {"beta", "got -1"}});
  expect_error({"no input",
                damaged([](auto& copy) {
                  copy.tensors["input"] = at::ones({2, 2}, at::kDouble);
                }),
                {"'input'", "[2, 2]"}});
}

TEST(LagrangianMemory, AStateThatCannotComeToRestIsKept) {
  const auto patterns = randn({3, 4}, 1), queries = randn({2, 4}, 2);
  const LagrangianMemory stiff(patterns, LagrangianOptions::model_b(1.0)
                                             .dynamics(Dynamics::continuous)
                                             .hidden_time_constant(1e-8)
                                             .ode(core::OdeOptions().steps_max(100)));
  const auto recall = stiff.retrieve(queries);
  EXPECT_FALSE(recall.converged.any().item<bool>());
  EXPECT_TRUE(every(at::isfinite(recall.state)) && every(recall.period.eq(0)));
}

}  // namespace
}  // namespace hopfield::memory
