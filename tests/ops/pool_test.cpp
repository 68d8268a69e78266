// These tests compare pool() with its composite in float64, and with retrieve() on projected patterns.

#include "support/device.h"
#include "support/naive.h"
#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace hopfield {
namespace {

using testing::absolute_errors;
using testing::bitwise_equal;
using testing::finite_part;
using ::testing::HasSubstr;
using testing::max_difference;
using testing::randn;
using testing::runs_the_gpus_kernels;
using testing::test_device;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Sample {
  PoolInput input;  // float64
  RetrieveOptions options;
  std::string name;
};

/// Draws a random case: ragged or dense bags of odd sizes, with masks, norms and biases, and means far from zero.
Sample draw(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::initializer_list<int64_t> values) { return values.begin()[random() % values.size()]; };
  const auto bags = pick({1, 2, 3, 6}), heads = pick({1, 2, 3}), queries = pick({1, 1, 2, 5, 23}),
             depth = pick({1, 5, 16, 33}), width = pick({2, 3, 16, 20, 48, 64, 70}),
             most = pick({1, 2, 7, 63, 130, 520, 1100});
  const bool ragged = random() % 2 == 0;
  Sample s;
  auto& in = s.input;
  at::Tensor shift = (random() % 4 == 0 ? 10.0 : 0.0) * at::ones({1}, at::kDouble);
  if (ragged) {
    std::vector<int64_t> offsets{0};
    for (int64_t n = 0; n < bags; ++n) offsets.push_back(offsets.back() + (n == 1 ? 0 : 1 + random() % most));
    in.offsets = at::tensor(offsets, at::kLong);
    in.instances = randn({offsets.back(), width}, seed + 1) + shift;
    if (random() % 3 == 0) {
      in.masks.key_bias = randn({offsets.back()}, seed + 2);
      in.masks.key_bias.slice(0, 0, 1).fill_(-kInfinity);
    }
  } else {
    in.instances = randn({bags, most, width}, seed + 1) + shift;
    if (random() % 3 == 0) in.masks.padding_mask = randn({bags, most}, seed + 3) > 0.5;
    if (random() % 4 == 0) in.masks.association_mask = randn({1, heads, queries, most}, seed + 4) > 1.0;
    if (random() % 4 == 0) in.masks.key_bias = randn({1, most}, seed + 5);
  }
  in.state = randn({random() % 2 == 0 ? 1 : bags, heads, queries, depth}, seed + 6);
  in.weight = randn({heads, depth, width}, seed + 7) / std::sqrt(static_cast<double>(width));
  if (random() % 3 != 0) in.bias = randn({heads, depth}, seed + 8);
  if (random() % 3 != 0) in.normalize_eps = 1e-5;
  const auto steps = pick({0, 1, 3});
  s.options.update_steps_max(steps).update_steps_eps(0.0);
  if (random() % 2 == 0)
    s.options.beta(0.7 / std::sqrt(static_cast<double>(depth)) * (1 + 0.1 * at::arange(heads, at::kDouble)));
  if (random() % 4 == 0) s.options.dropout(0.4);
  if (random() % 4 == 0) s.options.stop_rule(StopRule::per_head);
  if (random() % 4 == 0) s.options.gradient(Gradient::last(pick({0, 1, 2, 9})));
  s.name = c10::str("seed ", seed, ragged ? " ragged" : " dense", " N ", bags, " H ", heads, " L ", queries, " S ",
                    most, " d_in ", width, " d ", depth, " T ", steps, " dropout ", s.options.dropout(), " ",
                    to_string(s.options.stop_rule()), " ", to_string(s.options.gradient()), " norm ",
                    in.normalize_eps.has_value(), " bias ", in.bias.defined(), " mean ", shift.item<double>());
  return s;
}

/// The same input in another precision and on a device. The offsets stay on the CPU.
PoolInput placed(PoolInput input, at::ScalarType type, at::Device device) {
  for (auto* tensor : {&input.instances, &input.state, &input.weight, &input.bias}) {
    if (tensor->defined()) *tensor = tensor->to(device, type);
  }
  if (input.masks.key_bias.defined()) {
    input.masks.key_bias = input.masks.key_bias.to(device, type == at::kDouble ? at::kDouble : at::kFloat);
  }
  for (auto* mask : {&input.masks.association_mask, &input.masks.padding_mask}) {
    if (mask->defined()) *mask = mask->to(device);
  }
  return input;
}

struct Results {
  std::vector<at::Tensor> outputs, gradients;
};

/// Calls pool() and its backward pass. Calls in float64 are the reference and run on the CPU.
Results run(const Sample& sample, at::ScalarType type, Backend backend) {
  const auto device = type == at::kDouble ? at::Device(at::kCPU) : test_device();
  auto input = placed(sample.input, type, device);
  std::vector<at::Tensor> leaves;
  for (auto* tensor : {&input.instances, &input.state, &input.weight, &input.bias}) {
    if (!tensor->defined()) continue;
    *tensor = tensor->detach().requires_grad_(true);
    leaves.push_back(*tensor);
  }
  auto options = sample.options;
  options.backend(backend).generator(at::detail::createCPUGenerator(7));
  if (options.beta().defined()) {
    options.beta(options.beta().detach().clone().requires_grad_(true));
    leaves.push_back(options.beta());
  }
  const auto r = pool(input, options);
  Results results{{r.output, r.mass, r.state, r.logsumexp}, {}};
  std::vector<at::Tensor> weights;
  for (size_t i = 0; i < results.outputs.size(); ++i) {
    const auto& output = results.outputs[i];
    weights.push_back(randn(output.sizes(), 90 + i).to(output.options()).masked_fill(at::isneginf(output), 0.0));
  }
  std::vector<at::Tensor> outputs, gradients;
  for (size_t i = 0; i < results.outputs.size(); ++i) {
    if (!results.outputs[i].requires_grad()) continue;
    outputs.push_back(results.outputs[i]);
    gradients.push_back(weights[i]);
  }
  results.gradients = torch::autograd::grad(outputs, leaves, gradients, std::nullopt, false, true);
  for (auto* tensors : {&results.outputs, &results.gradients}) {
    for (auto& tensor : *tensors) tensor = tensor.defined() ? tensor.cpu() : tensor;
  }
  return results;
}

/// Largest error relative to the largest number of the reference; infinity where not the same numbers are finite.
double relative_error(const at::Tensor& found, const at::Tensor& reference) {
  if (!reference.defined() || reference.numel() == 0) return 0;
  const auto largest_error = absolute_errors(found, reference).max().item<double>();
  return largest_error / (1e-3 + finite_part(reference).abs().max().item<double>());
}

/// Whether the kernels at hand refuse a call. Those of the CPU serve all calls; the GPU's serve no masks of single
/// scores and only the stop rule of single queries.
bool is_refused(const Sample& sample) {
  const auto rule = sample.options.stop_rule();
  return runs_the_gpus_kernels() &&
         (sample.input.masks.association_mask.defined() ||
          (rule == StopRule::per_head && sample.options.update_steps_max().values()[0] != 0));
}

uint64_t number_of_tests() { return testing::kernels_run_on_host ? 2 : 10; }

class GeneratedPools : public ::testing::TestWithParam<uint64_t> {};

std::vector<double> errors(const Sample& sample, Backend backend) {
  const auto reference = run(sample, at::kDouble, Backend::composite), found = run(sample, at::kFloat, backend);
  std::vector<double> all;
  for (size_t k = 0; k < reference.outputs.size(); ++k) {
    all.push_back(relative_error(found.outputs[k], reference.outputs[k]));
  }
  for (size_t k = 0; k < reference.gradients.size(); ++k) {
    all.push_back(relative_error(found.gradients[k], reference.gradients[k]));
  }
  return all;
}

bool within_rule(const std::vector<double>& fused, const std::vector<double>& plain) {
  for (size_t k = 0; k < fused.size(); ++k) {
    if (fused[k] > 3 * plain[k] + 1e-5) return false;
  }
  return true;
}

TEST_P(GeneratedPools, StayWithinThreeTimesTheCompositesError) {
  for (uint64_t i = 0; i < 40 && !HasFailure(); ++i) {
    const auto sample = draw(GetParam() * 40 + i);
    if (is_refused(sample)) continue;
    const auto fused = errors(sample, Backend::fused);
    auto plain = errors(sample, Backend::composite);
    // The errors of a few numbers depend on chance: the plain error is the worst of some calls that differ in rounding.
    for (uint64_t variation = 0; variation < 8 && !within_rule(fused, plain); ++variation) {
      auto other = sample;
      auto& y = other.input.instances;
      y = y * (1 + 1e-3 * randn(y.sizes(), 7 * variation + i));
      const auto more = errors(other, Backend::composite);
      for (size_t k = 0; k < plain.size(); ++k) plain[k] = std::max(plain[k], more[k]);
    }
    EXPECT_TRUE(within_rule(fused, plain)) << sample.name << "\n" << c10::str(fused) << "\n" << c10::str(plain);
  }
}

INSTANTIATE_TEST_SUITE_P(Pool, GeneratedPools, ::testing::Range<uint64_t>(0, number_of_tests()));

Sample large_bags() {
  Sample s;
  s.input.offsets = at::tensor({int64_t{0}, int64_t{9000}, int64_t{9003}, int64_t{15000}});
  s.input.instances = randn({15000, 32}, 1);
  s.input.state = randn({1, 2, 3, 8}, 2);
  s.input.weight = randn({2, 8, 32}, 3) / 5;
  s.input.bias = randn({2, 8}, 4);
  s.input.normalize_eps = 1e-5;
  s.options.fixed_steps(2).beta(1.0);
  return s;
}

TEST(Pool, TrainsUntilConverged) {
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    auto s = large_bags();
    s.options.until_converged().update_steps_eps(1e-3).stop_rule(rule);
    if (is_refused(s)) continue;
    const auto fused = errors(s, Backend::fused), plain = errors(s, Backend::composite);
    EXPECT_TRUE(within_rule(fused, plain)) << c10::str(fused) << "\n" << c10::str(plain);
  }
}

TEST(Pool, EqualsRetrievalFromProjectedPatterns) {
  const auto s = large_bags();
  const auto& in = s.input;
  const auto y = at::layer_norm(in.instances, {32}, {}, {}, 1e-5);
  const auto keys = at::linear(y, in.weight.reshape({16, 32}), in.bias.reshape({16})).unflatten(-1, {2, 8});
  const auto values = y.unsqueeze(1);
  const auto r = retrieve({in.state.expand({3, -1, -1, -1}), keys, values, {}, in.offsets}, s.options);
  const auto p = pool(in, s.options);
  EXPECT_LT(max_difference(p.output, r.output), 1e-12);
  EXPECT_LT(max_difference(p.logsumexp, r.logsumexp), 1e-12);
  EXPECT_LT((p.mass - 1).abs().max().item<double>(), 1e-12);
}

TEST(Pool, SaysWhichFormServesACall) {
  auto in = large_bags().input;
  for (auto* tensor : {&in.instances, &in.state, &in.weight, &in.bias}) *tensor = tensor->to(at::kFloat);
  if (testing::kernels_run_on_host) {
    EXPECT_THAT(describe_backend(in), HasSubstr("the GPU; bags of up to 5632 instances are read once"));
  } else {
    EXPECT_EQ(describe_backend(in), "the fused kernels of the CPU");
  }
  EXPECT_THAT(describe_backend(in, RetrieveOptions().backend(Backend::composite)), HasSubstr("options ask"));
  in.instances = in.instances.to(at::kDouble);
  EXPECT_THROW(describe_backend(in), c10::Error);
  for (auto* tensor : {&in.state, &in.weight, &in.bias}) *tensor = tensor->to(at::kDouble);
  EXPECT_THAT(describe_backend(in), HasSubstr("LibTorch operations: "));
}

TEST(Pool, GivesTheScoresOfItsFinalAssociation) {
  for (uint64_t seed = 500; seed < 540; ++seed) {
    const auto s = draw(seed);
    if (is_refused(s)) continue;
    const auto in = placed(s.input, at::kFloat, test_device());
    auto options = s.options;
    options.with_scores();
    const auto fused = pool(in, options.backend(Backend::fused));
    const auto plain = pool(s.input, options.backend(Backend::composite));
    EXPECT_LT(relative_error(fused.scores.cpu(), plain.scores), 1e-4) << s.name;
  }
}

TEST(Pool, GivesTheSameBitsForAnyThreadsAndForABagAlone) {
  const auto s = large_bags();
  const auto threads_before = at::get_num_threads();
  at::set_num_threads(1);
  const auto alone = run(s, at::kFloat, Backend::fused);
  for (const int threads : {2, 8}) {
    at::set_num_threads(threads);
    const auto more = run(s, at::kFloat, Backend::fused);
    for (size_t i = 0; i < alone.outputs.size(); ++i) EXPECT_TRUE(bitwise_equal(more.outputs[i], alone.outputs[i]));
    for (size_t i = 0; i < alone.gradients.size(); ++i)
      EXPECT_TRUE(bitwise_equal(more.gradients[i], alone.gradients[i]));
  }
  at::set_num_threads(threads_before);
  auto bag = s;
  bag.input.instances = s.input.instances.slice(0, 9003);
  bag.input.offsets = at::tensor({int64_t{0}, int64_t{5997}});
  const auto one = run(bag, at::kFloat, Backend::fused);
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(bitwise_equal(one.outputs[i][0], alone.outputs[i][2])) << i;
}

TEST(Pool, CanBeDifferentiatedTwice) {
  const auto second = [](Backend backend) {
    auto in = placed({randn({1, 1, 2, 3}, 2), randn({2, 6, 4}, 1), randn({1, 3, 4}, 3), randn({1, 3}, 4), {}, {}, 1e-5},
                     at::kFloat, test_device());
    in.instances.requires_grad_(true);
    in.weight.requires_grad_(true);
    const auto r = pool(in, RetrieveOptions().fixed_steps(2).backend(backend));
    const auto first =
        torch::autograd::grad({r.output.pow(2).sum() + r.logsumexp.sum()}, {in.instances, in.weight}, {}, true, true);
    return torch::autograd::grad({first[0].pow(2).sum() + first[1].pow(2).sum()}, {in.instances, in.weight});
  };
  const auto fused = second(Backend::fused), plain = second(Backend::composite);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_LT(relative_error(fused[i].cpu(), plain[i].to(at::kCPU, at::kDouble)), 1e-4);
  }
}

TEST(Pool, HiddenInstancesMayHoldAnything) {
  auto in = placed(
      {randn({1, 1, 2, 3}, 2), randn({2, 6, 4}, 1), randn({1, 3, 4}, 3), {}, {at::zeros({2, 6}, at::kBool)}, {}, 1e-5},
      at::kFloat, test_device());
  in.masks.padding_mask.slice(1, 4).fill_(true);
  in.weight.requires_grad_(true);
  for (const auto backend : {Backend::automatic, Backend::composite}) {
    const auto options = RetrieveOptions().fixed_steps(2).backend(backend);
    const auto clean = pool(in, options);
    auto spoilt = in;
    spoilt.instances = in.instances.clone();
    spoilt.instances.slice(1, 4).fill_(std::numeric_limits<double>::quiet_NaN());
    const auto r = pool(spoilt, options);
    EXPECT_LT((r.output - clean.output).abs().max().item<double>(), 1e-6);
    for (const bool differentiable : {false, true}) {
      const auto gradient = torch::autograd::grad({r.output.sum()}, {in.weight}, {}, true, differentiable)[0];
      EXPECT_TRUE(at::isfinite(gradient).all().item<bool>());
    }
    // An instance that is not hidden spoils only its own bag.
    spoilt.instances[1][0].fill_(std::numeric_limits<double>::quiet_NaN());
    const auto seen = pool(spoilt, options).output;
    EXPECT_LT((seen[0] - clean.output[0]).abs().max().item<double>(), 1e-6);
    EXPECT_TRUE(at::isnan(seen[1]).all().item<bool>());
  }
}

TEST(Pool, MasksMayBeSharedByBatchAndHeads) {
  auto in = placed({randn({1, 1, 2, 3}, 2), randn({2, 6, 4}, 1), randn({1, 3, 4}, 3), {}, {{}, randn({2, 6}, 4) > 0.5}},
                   at::kFloat, test_device());
  auto expanded = in;
  expanded.masks.association_mask = in.masks.association_mask.expand({2, 1, -1, -1});
  for (const auto backend : {Backend::automatic, Backend::composite}) {
    const auto options = RetrieveOptions().fixed_steps(2).backend(backend);
    EXPECT_LT((pool(in, options).output - pool(expanded, options).output).abs().max().item<double>(), 1e-6);
  }
}

}  // namespace
}  // namespace hopfield
