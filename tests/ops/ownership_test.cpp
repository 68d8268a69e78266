// These tests check what a call and its caller share: inputs that are changed before the backward pass, and results
// that are changed at all. ops_test runs them with the kernels of the device at hand, ops_on_host_test with the GPU's.

#include "support/device.h"
#include "support/naive.h"
#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::max_difference;
using testing::randn;
using testing::runs_the_gpus_kernels;
using testing::test_device;

at::Tensor floats(at::IntArrayRef shape, uint64_t seed) { return randn(shape, seed).to(test_device(), at::kFloat); }

using Named = std::vector<std::pair<std::string, at::Tensor>>;

/// A call of either op: its tensors, and how to make it.
struct Call {
  std::string name;
  Named tensors;
  std::function<Named()> results;
};

Named results_of(const RetrieveResult& r) {
  return {{"output", r.output},     {"state", r.state},         {"logsumexp", r.logsumexp}, {"steps", r.steps},
          {"residual", r.residual}, {"converged", r.converged}, {"energy", r.energy},       {"scores", r.scores}};
}

void keep(Call& call, const char* name, const at::Tensor& tensor) {
  if (tensor.defined()) call.tensors.emplace_back(name, tensor);
}

at::Tensor leaf(const at::Tensor& tensor) { return tensor.detach().clone().requires_grad_(true); }

template <typename Input>
void keep_masks(Call& call, Input& in) {
  for (auto* tensor : {&in.masks.association_mask, &in.masks.padding_mask, &in.masks.key_bias, &in.offsets}) {
    if (tensor->defined()) *tensor = tensor->clone();
  }
  keep(call, "association_mask", in.masks.association_mask);
  keep(call, "padding_mask", in.masks.padding_mask);
  keep(call, "key_bias", in.masks.key_bias);
  keep(call, "offsets", in.offsets);
}

Call retrieve_call(std::string name, RetrieveInput in, RetrieveOptions options) {
  Call call{std::move(name), {}, {}};
  keep(call, "state", in.state = leaf(in.state));
  keep(call, "stored", in.stored = leaf(in.stored));
  if (in.projection.defined()) keep(call, "projection", in.projection = leaf(in.projection));
  keep(call, "beta", options.beta());
  keep_masks(call, in);
  call.results = [in, options] { return results_of(retrieve(in, options)); };
  return call;
}

Call pool_call(std::string name, PoolInput in, RetrieveOptions options) {
  Call call{std::move(name), {}, {}};
  keep(call, "instances", in.instances = leaf(in.instances));
  keep(call, "state", in.state = leaf(in.state));
  keep(call, "weight", in.weight = leaf(in.weight));
  keep(call, "bias", in.bias = leaf(in.bias));
  keep(call, "beta", options.beta());
  keep_masks(call, in);
  call.results = [in, options] {
    const auto r = pool(in, options);
    auto results = results_of(r);
    results.emplace_back("mass", r.mass);
    return results;
  };
  return call;
}

RetrieveInput dense_patterns() {
  RetrieveInput in;
  in.state = floats({2, 2, 3, 4}, 1);
  in.stored = floats({2, 2, 5, 4}, 2);
  in.projection = floats({2, 2, 5, 3}, 3);
  return in;
}

RetrieveInput ragged_patterns() {
  RetrieveInput in;
  in.state = floats({3, 2, 3, 4}, 1);
  in.stored = floats({9, 2, 4}, 2);
  in.projection = floats({9, 2, 3}, 3);
  in.masks.key_bias = floats({9}, 4);
  in.offsets = at::tensor({0, 4, 5, 9}, at::kLong);
  return in;
}

RetrieveInput masked_patterns() {
  auto in = dense_patterns();
  in.masks.association_mask = floats({2, 2, 3, 5}, 5) > 0.5;
  in.masks.padding_mask = floats({2, 5}, 6) > 0.8;
  in.masks.key_bias = floats({2, 5}, 7);
  return in;
}

RetrieveInput biased_patterns() {
  auto in = dense_patterns();
  in.masks.association_mask = floats({2, 1, 3, 5}, 5);
  return in;
}

PoolInput bags() {
  PoolInput in;
  in.instances = floats({2, 7, 20}, 1);
  in.state = floats({1, 2, 3, 5}, 2);
  in.weight = floats({2, 5, 20}, 3) / 4;
  in.bias = floats({2, 5}, 4);
  in.masks.padding_mask = floats({2, 7}, 5) > 0.8;
  in.masks.key_bias = floats({2, 7}, 6);
  in.normalize_eps = 1e-2;
  return in;
}

PoolInput ragged_bags() {
  auto in = bags();
  in.instances = floats({12, 20}, 1);
  in.offsets = at::tensor({0, 5, 5, 12}, at::kLong);
  in.masks.padding_mask = at::Tensor();
  in.masks.key_bias = floats({12}, 6);
  return in;
}

PoolInput masked_bags() {
  auto in = bags();
  in.masks.association_mask = floats({2, 2, 3, 7}, 7) > 0.5;
  return in;
}

struct Mode {
  const char* name;
  std::function<void(RetrieveOptions&)> set;
};

const std::vector<Mode> kModes{
    {"without updates", [](RetrieveOptions& o) { o.fixed_steps(0); }},
    {"unrolled", [](RetrieveOptions& o) { o.fixed_steps(2); }},
    {"last", [](RetrieveOptions& o) { o.fixed_steps(3).gradient(Gradient::last(1)); }},
    {"a threshold and many updates", [](RetrieveOptions& o) { o.update_steps_max(200).update_steps_eps(1e-3); }},
    {"until converged", [](RetrieveOptions& o) { o.until_converged().update_steps_eps(1e-3); }},
    {"per head", [](RetrieveOptions& o) { o.update_steps_max(3).stop_rule(StopRule::per_head); }},
    {"implicit", [](RetrieveOptions& o) { o.until_converged().gradient(Gradient::implicit()); }},
    {"dropout",
     [](RetrieveOptions& o) { o.fixed_steps(1).dropout(0.4).generator(at::detail::createCPUGenerator(3)); }}};

using MakeCall = std::function<Call()>;

/// Every form of both ops in every mode, by plain operations and by the fused kernels where they serve it, of the GPU's
/// some. Each call of one of the functions gives the same call with tensors of its own.
std::vector<MakeCall> all_calls(bool with_gradient = true) {
  std::vector<MakeCall> calls;
  for (const auto& mode : kModes) {
    for (const auto backend : {Backend::automatic, Backend::composite}) {
      if (runs_the_gpus_kernels() && backend == Backend::composite) continue;  // the other program has them
      const auto options = [=] {
        const auto floating = at::TensorOptions(at::kFloat).device(test_device());
        auto o = RetrieveOptions().backend(backend).beta(at::full({2}, 0.3, floating).requires_grad_(with_gradient));
        mode.set(o);
        return o;
      };
      const auto name = [=](const char* form) { return c10::str(form, ", ", mode.name, ", ", to_string(backend)); };
      calls.push_back([=] { return retrieve_call(name("retrieve masked"), masked_patterns(), options()); });
      calls.push_back([=] { return retrieve_call(name("retrieve ragged"), ragged_patterns(), options()); });
      calls.push_back([=] { return pool_call(name("pool"), bags(), options()); });
      calls.push_back([=] { return pool_call(name("pool ragged"), ragged_bags(), options()); });
      if (runs_the_gpus_kernels()) continue;
      calls.push_back([=] { return retrieve_call(name("retrieve"), dense_patterns(), options()); });
      calls.push_back([=] { return retrieve_call(name("retrieve with a bias"), biased_patterns(), options()); });
      calls.push_back([=] { return pool_call(name("pool masked"), masked_bags(), options()); });
    }
  }
  return calls;
}

at::Tensor loss_of(const Named& results) {
  auto total = at::zeros({}, at::TensorOptions(at::kFloat).device(test_device()));
  uint64_t seed = 50;
  for (const auto& [name, tensor] : results) {
    if (!tensor.defined() || !tensor.requires_grad()) continue;
    const auto finite = tensor.masked_fill(at::isfinite(tensor.detach()).logical_not(), 0.0);
    total = total + (finite * floats(tensor.sizes(), ++seed)).sum();
  }
  return total;
}

std::vector<at::Tensor> leaves_of(const Call& call) {
  std::vector<at::Tensor> leaves;
  for (const auto& [name, tensor] : call.tensors) {
    if (tensor.requires_grad()) leaves.push_back(tensor);
  }
  return leaves;
}

std::vector<at::Tensor> gradients_of(const Call& call, const at::Tensor& loss, bool create_graph = false) {
  return torch::autograd::grad({loss}, leaves_of(call), {}, true, create_graph, /*allow_unused=*/true);
}

/// Changes the tensors as a caller does who uses them again: they get other numbers, or offsets of a larger batch.
void change_in_place(at::Tensor tensor) {
  const at::NoGradGuard no_grad;
  if (tensor.scalar_type() == at::kBool) {
    tensor.logical_not_();
  } else if (tensor.scalar_type() == at::kLong) {
    tensor.mul_(1000);
  } else {
    tensor.add_(1.5);
  }
}

/// The gradients, or nothing if LibTorch refused to differentiate what was changed.
std::vector<at::Tensor> gradients_unless_refused(const Call& call, const at::Tensor& loss, bool create_graph = false) {
  try {
    return gradients_of(call, loss, create_graph);
  } catch (const c10::Error& error) {
    using ::testing::AnyOf;
    using ::testing::HasSubstr;
    EXPECT_THAT(std::string(error.what_without_backtrace()),
                AnyOf(HasSubstr("modified by an inplace operation"), HasSubstr("has been modified inplace")));
    return {};
  }
}

void expect_same(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(found[i].defined(), expected[i].defined()) << i;
    if (!expected[i].defined() || expected[i].numel() == 0) continue;
    EXPECT_LE(max_difference(found[i], expected[i]), 1e-5 * (1 + expected[i].abs().max().item<double>())) << i;
  }
}

TEST(Ownership, InputsThatChangeBeforeBackwardAreNoticedOrDoNotMatter) {
  int64_t refused = 0, right = 0;
  for (const auto& make_call : all_calls()) {
    const auto untouched = make_call();
    const auto expected = gradients_of(untouched, loss_of(untouched.results()));
    for (size_t i = 0; i < untouched.tensors.size(); ++i) {
      const auto call = make_call();
      SCOPED_TRACE(call.name + ": " + call.tensors[i].first);
      const auto loss = loss_of(call.results());
      change_in_place(call.tensors[i].second);
      const auto found = gradients_unless_refused(call, loss);
      if (!found.empty()) expect_same(found, expected);
      ++(found.empty() ? refused : right);
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(right, 0);
}

TEST(Ownership, SecondDerivativesNoticeChangedInputs) {
  if (runs_the_gpus_kernels()) GTEST_SKIP() << "plain operations find them, on any device";
  int64_t refused = 0, right = 0;
  for (const auto& make_call : all_calls()) {
    const auto untouched = make_call();
    if (untouched.name.find("implicit") != std::string::npos) continue;  // has none
    const auto second = [](const Call& call, const at::Tensor& loss) {
      auto total = at::zeros({}, loss.options().requires_grad(false));
      for (const auto& gradient : gradients_unless_refused(call, loss, /*create_graph=*/true)) {
        if (gradient.defined()) total = total + gradient.pow(2).sum();
      }
      return total.requires_grad() ? gradients_of(call, total) : std::vector<at::Tensor>();
    };
    const auto expected = second(untouched, loss_of(untouched.results()));
    ASSERT_FALSE(expected.empty()) << untouched.name;
    for (size_t i = 0; i < untouched.tensors.size(); ++i) {
      const auto call = make_call();
      SCOPED_TRACE(call.name + ": " + call.tensors[i].first);
      const auto loss = loss_of(call.results());
      change_in_place(call.tensors[i].second);
      const auto found = second(call, loss);
      if (!found.empty()) expect_same(found, expected);
      ++(found.empty() ? refused : right);
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(right, 0);
}

TEST(Ownership, AGeneratorThatGoesOnChangesNoMask) {
  for (const bool pools : {false, true}) {
    const auto make_call = [pools](const at::Generator& generator) {
      const auto options = RetrieveOptions().fixed_steps(1).dropout(0.4).generator(generator);
      return pools ? pool_call("pool", bags(), options) : retrieve_call("retrieve", dense_patterns(), options);
    };
    const auto untouched = make_call(at::detail::createCPUGenerator(3));
    const auto expected = gradients_of(untouched, loss_of(untouched.results()));
    auto generator = at::detail::createCPUGenerator(3);
    const auto call = make_call(generator);
    const auto loss = loss_of(call.results());
    generator.set_current_seed(99);
    expect_same(gradients_of(call, loss), expected);
  }
}

TEST(Ownership, ResultsShareMemoryWithNothing) {
  for (const bool with_gradient : {false, true}) {
    const at::AutoGradMode grad_mode(with_gradient);
    for (const auto& make_call : all_calls(with_gradient)) {
      const auto call = make_call();
      SCOPED_TRACE(call.name);
      const auto results = call.results();
      for (const auto& [name, result] : results) {
        if (!result.defined()) continue;
        for (const auto& [input_name, input] : call.tensors) {
          EXPECT_FALSE(result.is_alias_of(input)) << name << " and " << input_name;
        }
        for (const auto& [other_name, other] : results) {
          if (!other.defined() || name == other_name) continue;
          EXPECT_FALSE(result.is_alias_of(other)) << name << " and " << other_name;
        }
      }
    }
  }
}

void change_result(at::Tensor& result) {
  if (result.scalar_type() == at::kBool) {
    result.logical_not_();
  } else {
    result += at::where(at::isfinite(result), at::ones_like(result), at::zeros_like(result));
  }
}

/// Whichever result is changed, the backward pass is as if nothing had been done.
TEST(Ownership, ResultsMayBeChangedInPlace) {
  for (const auto& make_call : all_calls()) {
    const auto untouched = make_call();
    const auto expected = gradients_of(untouched, loss_of(untouched.results()));
    const auto names = untouched.results();
    for (size_t i = 0; i < names.size(); ++i) {
      if (!names[i].second.defined()) continue;
      const auto call = make_call();
      SCOPED_TRACE(call.name + ": " + names[i].first);
      auto results = call.results();
      auto& result = results[i].second;
      change_result(result);
      const auto found = gradients_unless_refused(call, loss_of(results));
      // Plain operations keep some results for their own backward pass: then LibTorch refuses, as it does for exp().
      if (call.name.find("composite") == std::string::npos || !found.empty()) expect_same(found, expected);
    }
  }
}

TEST(Ownership, ResultsOfFewerDimensionsAreOnesOwnToo) {
  for (int64_t dimensions = 2; dimensions <= 3; ++dimensions) {
    for (const int64_t steps : {0, 2}) {
      const auto sizes = dimensions == 2 ? std::vector<int64_t>{3, 4} : std::vector<int64_t>{2, 3, 4};
      RetrieveInput in;
      in.state = floats(sizes, 1).requires_grad_(true);
      in.stored = floats(sizes, 2).requires_grad_(true);
      {
        const at::NoGradGuard no_grad;
        const auto before = in.state.clone();
        auto r = retrieve(in, RetrieveOptions().fixed_steps(steps));
        r.state.add_(1);
        r.output.add_(1);
        EXPECT_TRUE(bitwise_equal(in.state, before));
      }
      auto r = retrieve(in, RetrieveOptions().fixed_steps(steps));
      const auto expected = torch::autograd::grad({r.output.sum() + r.state.sum()}, {in.state, in.stored}, {}, true);
      r.output += 1;
      r.state += 1;
      expect_same(torch::autograd::grad({r.output.sum() + r.state.sum()}, {in.state, in.stored}), expected);
    }
  }
}

}  // namespace
}  // namespace hopfield
