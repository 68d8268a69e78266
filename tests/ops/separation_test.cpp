// These tests compare retrieve() and pool() with separations other than softmax against loops over single numbers, and
// their gradients against differences. What softmax has in common with the others is tested elsewhere.

#include "support/errors.h"
#include "support/gradcheck.h"
#include "support/naive.h"
#include "support/retrieve_input.h"
#include <hopfield/core/energy.h>
#include <hopfield/core/update.h>
#include <hopfield/ops/pool.h>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace hopfield {
namespace {

using namespace testing;
using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

const std::vector<Separation>& other_separations() {
  static const std::vector<Separation> all{Separation::softmax1(), Separation::sparsemax(), Separation::entmax(1.5),
                                           Separation::entmax(1.3)};
  return all;
}

RetrieveOptions options_of(const Separation& separation) { return RetrieveOptions().separation(separation); }

TEST(RetrieveSeparation, EqualsTheExplicitLoop) {
  const auto beta = at::tensor({0.8, 1.7}, at::kDouble);
  uint64_t seed = 0;
  for (const auto& separation : other_separations()) {
    for (const auto layout : kLayouts) {
      for (const auto mask : kMaskKinds) {
        for (const int64_t steps : {0, 1, 3}) {
          const auto c = make_case(layout, mask, steps == 1, seed += 10);
          SCOPED_TRACE(to_string(separation) + ", " + c.name + ", steps " + std::to_string(steps));
          const auto counts = at::full({3, 2, 2}, steps, at::kLong);
          const auto expected = naive_retrieve(c.state, c.stored, c.projection, beta, c.bias, counts, separation);
          const auto r =
              retrieve(c.input, options_of(separation).beta(beta).fixed_steps(steps).with_energy().with_scores());
          EXPECT_LT(max_difference(r.output, expected.output), 1e-12);
          EXPECT_LT(max_difference(r.state, expected.state), 1e-12);
          EXPECT_LT(max_difference(r.logsumexp, expected.logsumexp), 1e-12);
          EXPECT_LT(max_difference(r.energy, expected.energy), 1e-12);
          const auto dead = expected.logsumexp.eq(-kInfinity);
          EXPECT_TRUE(bitwise_equal(r.steps, counts.masked_fill(dead, 0)));
          EXPECT_TRUE(r.converged.masked_select(dead).all().item<bool>());
          EXPECT_EQ(r.output.masked_select(dead.unsqueeze(-1)).abs().sum().item<double>(), 0);
          if (layout == Layout::ragged) continue;
          EXPECT_LT(max_difference(core::association(r.scores, separation), expected.association), 1e-12);
        }
      }
    }
  }
}

TEST(RetrieveSeparation, IsRetrieveWithSoftmaxWhereItIsSoftmax) {
  const auto c = make_case(Layout::dense, MaskKind::everything, true, 3);
  const auto softmax = retrieve(c.input, RetrieveOptions().fixed_steps(2));
  const auto near = retrieve(c.input, options_of(Separation::entmax(1 + 1e-9)).fixed_steps(2));
  EXPECT_LT(max_difference(softmax.output, near.output), 1e-7);
  EXPECT_LT(max_difference(softmax.logsumexp, near.logsumexp), 1e-7);
}

/// The differentiable tensors of a case, beta first, and the call as their function.
struct Differentiable {
  std::vector<at::Tensor> inputs;
  TensorFunction function;
};

/// Excluded entries of a mask are constants.
Differentiable differentiate(const RetrieveInput& input, const at::Tensor& beta, const RetrieveOptions& options) {
  Differentiable d;
  d.inputs = {beta, input.state, input.stored};
  if (input.projection.defined()) d.inputs.push_back(input.projection);
  const auto places_before_bias = d.inputs.size();
  const auto& bias = input.masks.key_bias;
  if (bias.defined()) d.inputs.push_back(bias.masked_fill(at::isneginf(bias), 0.0));
  d.function = [=](const std::vector<at::Tensor>& x) {
    auto call = input;
    call.state = x[1];
    call.stored = x[2];
    if (call.projection.defined()) call.projection = x[3];
    if (bias.defined()) call.masks.key_bias = x[places_before_bias].masked_fill(at::isneginf(bias), -kInfinity);
    const auto generator = at::detail::createCPUGenerator(5);
    const auto r = retrieve(call, RetrieveOptions(options).beta(x[0]).generator(generator));
    return std::vector<at::Tensor>{r.output, r.state, r.logsumexp, r.energy, r.scores};
  };
  return d;
}

constexpr RetrieveShape kSmall{2, 2, 2, 4, 3, 2};

TEST(RetrieveSeparation, PassesGradcheck) {
  uint64_t seed = 0;
  for (const auto& separation : other_separations()) {
    for (const auto layout : {Layout::dense, Layout::all_shared, Layout::ragged}) {
      for (const auto mask : {MaskKind::none, MaskKind::everything}) {
        for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
          const auto c = make_case(layout, mask, true, seed += 10, kSmall);
          SCOPED_TRACE(to_string(separation) + ", " + c.name + ", " + to_string(rule));
          auto options = options_of(separation).fixed_steps(2).stop_rule(rule).with_energy().with_scores();
          if (rule == StopRule::per_query) options.dropout(0.4);
          const auto d = differentiate(c.input, at::tensor({0.7, 1.3}, at::kDouble), options);
          EXPECT_LT(gradcheck(d.function, d.inputs), 2e-6);
        }
      }
    }
  }
}

TEST(RetrieveSeparation, IsDifferentiableTwice) {
  for (const auto& separation : other_separations()) {
    const auto c = make_case(Layout::dense, MaskKind::key_bias, true, 4, kSmall);
    const auto d = differentiate(c.input, at::scalar_tensor(1.1, at::kDouble), options_of(separation).fixed_steps(2));
    EXPECT_LT(gradgradcheck(d.function, d.inputs), 1e-4) << to_string(separation);
  }
}

/// Gradients of stored, projection and beta.
std::vector<at::Tensor> gradients(const RetrieveInput& input, const RetrieveOptions& options) {
  auto call = input;
  call.stored = input.stored.detach().clone().requires_grad_(true);
  call.projection = input.projection.detach().clone().requires_grad_(true);
  const auto beta = at::tensor({0.3, 0.6}, at::kDouble).requires_grad_(true);
  const auto r = retrieve(call, RetrieveOptions(options).beta(beta));
  return torch::autograd::grad({(r.output * randn(r.output.sizes(), 99)).sum()}, {call.stored, call.projection, beta});
}

TEST(RetrieveSeparation, LastGradientEqualsTheEarlierStateDetached) {
  for (const auto& separation : other_separations()) {
    const auto c = make_case(Layout::dense, MaskKind::none, true, 5);
    const auto options = options_of(separation);
    const auto last = gradients(c.input, RetrieveOptions(options).fixed_steps(3).gradient(Gradient::last(1)));
    auto cut = c.input;
    const auto beta = at::tensor({0.3, 0.6}, at::kDouble);
    cut.state = retrieve(c.input, RetrieveOptions(options).beta(beta).fixed_steps(2)).state;
    const auto expected = gradients(cut, RetrieveOptions(options).fixed_steps(1));
    for (size_t i = 0; i < last.size(); ++i) EXPECT_LT(max_difference(last[i], expected[i]), 1e-13) << i;
  }
}

TEST(RetrieveSeparation, ImplicitGradientEqualsUnrolledAtTheFixedPoint) {
  for (const auto& separation : other_separations()) {
    for (const auto layout : {Layout::dense, Layout::ragged}) {
      const auto c = make_case(layout, MaskKind::key_bias, true, 20);
      SCOPED_TRACE(to_string(separation) + ", " + c.name);
      const auto options = options_of(separation).until_converged().update_steps_eps(1e-13).update_steps_cap(2000);
      const auto beta = at::tensor({0.3, 0.6}, at::kDouble);
      ASSERT_TRUE(retrieve(c.input, RetrieveOptions(options).beta(beta)).converged.all().item<bool>());
      const auto unrolled = gradients(c.input, options);
      const auto implicit = gradients(c.input, RetrieveOptions(options).gradient(Gradient::implicit()));
      for (size_t i = 0; i < unrolled.size(); ++i) {
        const double size = 1 + unrolled[i].abs().max().item<double>();
        EXPECT_LT(max_difference(implicit[i], unrolled[i]), 1e-8 * size) << i;
      }
    }
  }
}

TEST(RetrieveSeparation, BothStopRulesStopWhereTheyShould) {
  const auto state = randn({3, 2, 4, 8}, 1), stored = randn({3, 2, 10, 8}, 2);
  const auto beta = at::tensor({0.3, 1.2}, at::kDouble), bias = at::zeros({3, 2, 4, 10}, at::kDouble);
  for (const auto& separation : other_separations()) {
    SCOPED_TRACE(to_string(separation));
    const auto naive_after = [&](const at::Tensor& steps) {
      return naive_retrieve(state, stored, stored, beta, bias, steps, separation);
    };
    const auto options = options_of(separation).beta(beta).until_converged().update_steps_eps(1e-3);
    const auto each = retrieve(state, stored, options);
    EXPECT_TRUE(each.converged.all().item<bool>());
    EXPECT_GT((each.steps.max() - each.steps.min()).item<int64_t>(), 0);
    const auto reached = naive_after(each.steps).state, before = naive_after(each.steps - 1).state;
    EXPECT_LT(max_difference(each.state, reached), 1e-12);
    EXPECT_LT(max_difference((reached - before).norm(2, -1), each.residual), 1e-12);
    EXPECT_LE(each.residual.max().item<double>(), 1e-3);

    const auto heads = retrieve(state, stored, RetrieveOptions(options).stop_rule(StopRule::per_head));
    for (int64_t h = 0; h < 2; ++h) {
      const auto steps = heads.steps.select(1, h).max().item<int64_t>();
      EXPECT_EQ(heads.steps.select(1, h).min().item<int64_t>(), steps);
      const auto change = [&](int64_t t) {
        const auto association_after = [&](int64_t count) {
          return naive_after(at::full({3, 2, 4}, count, at::kLong)).association.select(1, h);
        };
        return (association_after(t) - association_after(t - 1)).pow(2).sum({1, 2}).sqrt().max().item<double>();
      };
      EXPECT_LE(change(steps), 1e-3);
      if (steps > 1) {
        EXPECT_GT(change(steps - 1), 1e-3);
      }
    }
  }
}

TEST(RetrieveSeparation, EnergyNeverRises) {
  const auto state = randn({2, 2, 5, 8}, 1), stored = randn({2, 2, 20, 8}, 2);
  for (const auto& separation : other_separations()) {
    auto before = at::full({2, 2, 5}, kInfinity, at::kDouble);
    for (const int64_t steps : {0, 1, 2, 3, 5, 9}) {
      const auto r = retrieve(state, stored, options_of(separation).beta(0.6).fixed_steps(steps).with_energy());
      EXPECT_LE((r.energy - before).max().item<double>(), 1e-12) << to_string(separation) << " " << steps;
      EXPECT_LT(
          max_difference(r.energy, core::energy(r.state, stored, at::scalar_tensor(0.6, at::kDouble), {}, separation)),
          1e-12);
      before = r.energy;
    }
  }
}

TEST(RetrieveSeparation, OneUpdateRetrievesAPatternExactly) {
  const auto stored = randn({1, 1, 50, 64}, 1), state = stored + 0.3 * randn({1, 1, 50, 64}, 2);
  for (const auto& separation : other_separations()) {
    for (const auto type : {at::kDouble, at::kFloat}) {
      if (!separation.is_sparse()) continue;
      const auto backend = type == at::kFloat ? Backend::fused : Backend::composite;
      const auto r = retrieve(state.to(type), stored.to(type),
                              options_of(separation).beta(1.0).until_converged().backend(backend));
      EXPECT_TRUE(bitwise_equal(r.state, stored.to(type))) << to_string(separation) << ", " << type;
      EXPECT_TRUE(bitwise_equal(r.output, stored.to(type)));
      EXPECT_EQ(r.residual.max().item<double>(), 0);  // of the second update, which changed nothing
      EXPECT_TRUE(r.steps.eq(2).all().item<bool>());
    }
  }
}

TEST(RetrieveSeparation, BagsAreRetrievedOneByOne) {
  for (const auto& separation : other_separations()) {
    const auto c = make_case(Layout::ragged, MaskKind::key_bias, true, 7, {5, 2, 2, 9, 4, 3});
    const auto options = options_of(separation).fixed_steps(3).with_scores();
    const auto all = retrieve(c.input, options);
    int64_t begin = 0;
    for (int64_t n = 0; n < 5; ++n) {
      const auto size = c.bag_sizes[n];
      const auto rows = [&](const at::Tensor& tensor) { return tensor.slice(0, begin, begin + size); };
      RetrieveInput bag{c.input.state.slice(0, n, n + 1), rows(c.input.stored), rows(c.input.projection)};
      bag.masks.key_bias = rows(c.input.masks.key_bias);
      bag.offsets = at::tensor({int64_t{0}, size}, at::kLong);
      const auto alone = retrieve(bag, options);
      EXPECT_TRUE(bitwise_equal(alone.output[0], all.output[n])) << to_string(separation) << " " << n;
      EXPECT_TRUE(bitwise_equal(alone.logsumexp[0], all.logsumexp[n]));
      EXPECT_TRUE(bitwise_equal(alone.scores, rows(all.scores)));
      begin += size;
    }
    const auto per_head = retrieve(c.input, RetrieveOptions(options).stop_rule(StopRule::per_head));
    EXPECT_LT(max_difference(per_head.output, all.output), 1e-13) << to_string(separation);
  }
}

TEST(RetrieveSeparation, RowsThatAreNotFiniteStayAlone) {
  for (const auto& separation : other_separations()) {
    SCOPED_TRACE(to_string(separation));
    auto c = make_case(Layout::dense, MaskKind::none, true, 5);
    const auto options = options_of(separation).until_converged();
    const auto clean = retrieve(c.input, options);
    auto input = c.input;
    input.state = input.state.clone();
    input.state[1][0][1][2] = kNaN;
    const auto r = retrieve(input, options);
    EXPECT_TRUE(r.output[1][0][1].isnan().all().item<bool>());
    EXPECT_FALSE(r.converged[1][0][1].item<bool>());
    EXPECT_TRUE(bitwise_equal(r.output[1][0][0], clean.output[1][0][0]));
    EXPECT_TRUE(bitwise_equal(r.output[0], clean.output[0]));
    // Patterns that are not finite make exactly those rows NaN that may attend to them, also where their weight is 0.
    input = c.input;
    input.stored = input.stored.clone();
    input.stored[0][0][3][1] = kNaN;
    input.masks.association_mask = at::zeros({3, 2, 2, 5}, at::kBool);
    input.masks.association_mask[0][0][1][3].fill_(true);
    const auto masked = retrieve(input, options);
    EXPECT_TRUE(masked.output[0][0][0].isnan().all().item<bool>());
    EXPECT_FALSE(masked.output[0][0][1].isnan().any().item<bool>());
    EXPECT_LT(max_difference(masked.output[0][1], clean.output[0][1]), 1e-13);
  }
}

TEST(RetrieveSeparation, HalfPrecisionIsComputedInFloats) {
  const auto state = randn({2, 2, 3, 8}, 1), stored = randn({2, 2, 9, 8}, 2);
  for (const auto& separation : other_separations()) {
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      for (const auto backend : {Backend::composite, Backend::automatic}) {
        const auto options = options_of(separation).fixed_steps(2).with_energy().backend(backend);
        const auto low = retrieve(state.to(type), stored.to(type), options);
        const auto exact = retrieve(state.to(type).to(at::kFloat), stored.to(type).to(at::kFloat), options);
        EXPECT_EQ(low.logsumexp.scalar_type(), at::kFloat);
        const auto name = to_string(separation) + c10::str(" ", type, " ", to_string(backend));
        if (backend == Backend::composite || type == at::kBFloat16) {  // the fused kernels do not take float16
          EXPECT_TRUE(bitwise_equal(low.output, exact.output.to(type))) << name;
        }
        // Beside the kernels, the energy is that of the state as it is returned.
        if (backend == Backend::composite) {
          EXPECT_TRUE(bitwise_equal(low.energy, exact.energy)) << name;
        }
      }
    }
    const auto options = options_of(separation).fixed_steps(2).with_energy();
    const auto single = retrieve(state.to(at::kFloat), stored.to(at::kFloat), options);
    const auto twice = retrieve(state, stored, options);
    EXPECT_LT(max_difference(single.output, twice.output), 1e-5) << to_string(separation);
    EXPECT_LT(max_difference(single.energy, twice.energy), 1e-4) << to_string(separation);
  }
}

TEST(PoolSeparation, EqualsRetrieveOnItsKeys) {
  const auto instances = randn({9, 6}, 1), weight = randn({2, 4, 6}, 2), bias = randn({2, 4}, 3);
  PoolInput input{randn({1, 2, 3, 4}, 4), instances, weight, bias};
  input.offsets = at::tensor({0, 4, 4, 9}, at::kLong);
  input.masks.key_bias = randn({9}, 5);
  RetrieveInput projected;
  projected.state = input.state.expand({3, -1, -1, -1});
  projected.stored = at::einsum("si,hki->shk", {instances, weight}) + bias;
  projected.projection = instances.unsqueeze(1);
  projected.offsets = input.offsets;
  projected.masks.key_bias = input.masks.key_bias;
  for (const auto& separation : other_separations()) {
    const auto options = options_of(separation).beta(0.7).fixed_steps(2).with_scores();
    const auto pooled = pool(input, options);
    const auto expected = retrieve(projected, options);
    EXPECT_LT(max_difference(pooled.output, expected.output), 1e-13) << to_string(separation);
    EXPECT_LT(max_difference(pooled.state, expected.state), 1e-13);
    EXPECT_LT(max_difference(pooled.logsumexp, expected.logsumexp), 1e-13);
    EXPECT_LT(max_difference(pooled.scores, expected.scores), 1e-13);
    // What is left of the weight 1, softmax1 gives to nothing.
    const auto& c = expected.logsumexp;
    const auto attended = separation.is_sparse() ? at::ones_like(c) : 1 - (-c).exp();
    EXPECT_LT(max_difference(pooled.mass, attended.masked_fill(at::isneginf(c), 0.0)), 1e-13);
    const auto function = [&](const std::vector<at::Tensor>& x) {
      auto call = input;
      std::tie(call.state, call.instances, call.weight, call.bias) = std::tie(x[0], x[1], x[2], x[3]);
      const auto r = pool(call, options_of(separation).beta(x[4]).fixed_steps(2));
      return std::vector<at::Tensor>{r.output, r.state, r.logsumexp, r.mass};
    };
    EXPECT_LT(gradcheck(function, {input.state, instances, weight, bias, at::scalar_tensor(0.7, at::kDouble)}), 2e-6);
  }
}

TEST(SeparationBackend, FusedKernelsSayWhatTheyDoNotServe) {
  const auto x = randn({2, 2, 3, 8}, 1).to(at::kFloat);
  const RetrieveInput input{x, x};
  const PoolInput bag{x.slice(0, 0, 1), x[0], randn({2, 8, 8}, 2).to(at::kFloat)};
  ASSERT_FALSE(why_not_fused(input, RetrieveOptions()));
  const auto softmax1 = options_of(Separation::softmax1());
  EXPECT_FALSE(why_not_fused(input, RetrieveOptions(softmax1).fixed_steps(2)));
  EXPECT_THAT(why_not_fused(bag, softmax1).value_or(""), HasSubstr("softmax1"));
  EXPECT_THAT(error_of([&] { pool(bag, RetrieveOptions(softmax1).backend(Backend::fused)); }), HasSubstr("softmax1"));
  const auto by_head = RetrieveOptions(softmax1).stop_rule(StopRule::per_head).update_steps_max(2);
  EXPECT_THAT(why_not_fused(input, by_head).value_or(""), HasSubstr("per_head"));
  for (const auto& separation : other_separations()) {
    if (!separation.is_sparse()) continue;
    const auto options = options_of(separation);
    EXPECT_FALSE(why_not_fused(input, RetrieveOptions(options).fixed_steps(2)));
    EXPECT_FALSE(why_not_fused(input, RetrieveOptions(options).until_converged().dropout(0.1)));
    const auto of_pool = HasSubstr("the fused kernels of pool do not separate by " + to_string(separation));
    EXPECT_THAT(why_not_fused(bag, options).value_or(""), of_pool);
    EXPECT_THAT(describe_backend(bag, options), of_pool);
    EXPECT_THAT(error_of([&] { pool(bag, RetrieveOptions(options).backend(Backend::fused)); }), of_pool);
    const auto heads = RetrieveOptions(options).stop_rule(StopRule::per_head).update_steps_max(2);
    EXPECT_THAT(why_not_fused(input, heads).value_or(""), HasSubstr("per_head"));
    const auto implicit = RetrieveOptions(options).until_converged().gradient(Gradient::implicit());
    EXPECT_FALSE(why_not_fused(input, implicit));
    const auto trained = RetrieveInput{x.clone().requires_grad_(true), x};
    EXPECT_THAT(why_not_fused(trained, implicit).value_or(""), HasSubstr("implicit gradient of"));
    EXPECT_THAT(why_not_fused(RetrieveInput{x.to(at::kDouble), x.to(at::kDouble)}, options).value_or(""),
                HasSubstr("float32"));
  }
}

}  // namespace
}  // namespace hopfield
