// These tests compare the fused kernels of the device at hand with the composite in float64, by values and by first and
// second derivatives. Every option and every input of both ops is tested at values that are not its defaults.

#include "support/close.h"
#include "support/decisions.h"
#include "support/device.h"
#include "support/naive.h"
#include <hopfield/ops/pool.h>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

namespace hopfield {
namespace {

using testing::expect_close;
using testing::expect_close_results;
using testing::kernels_run_on_host;
using testing::randn;
using testing::test_device;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kBatch = 2, kHeads = 2, kQueries = 3, kKeys = 6, kDepth = 4, kWidth = 5;

struct OptionsCase {
  std::string name;
  std::function<void(RetrieveOptions&)> apply;
};

std::vector<OptionsCase> all_options() {
  using O = RetrieveOptions;
  const auto betas = [] { return at::tensor({0.4, 1.1}, at::kDouble).requires_grad_(true); };
  return {
      {"defaults", [](O&) {}},
      {"updates", [](O& o) { o.fixed_steps(2); }},
      {"beta", [](O& o) { o.fixed_steps(2).beta(1.3); }},
      {"trained beta", [](O& o) { o.fixed_steps(2).beta(at::full({}, 1.3, at::kDouble).requires_grad_(true)); }},
      {"beta of each head", [=](O& o) { o.fixed_steps(1).beta(betas()); }},
      {"updates of each head",
       [](O& o) {
         o.update_steps_max({3, 1}).update_steps_eps(0.0);
       }},
      {"threshold", [](O& o) { o.update_steps_max(9).update_steps_eps(0.02); }},
      {"threshold of each head",
       [](O& o) {
         o.update_steps_max(9).update_steps_eps({0.3, 1e-3});
       }},
      {"until converged", [](O& o) { o.until_converged().update_steps_eps(1e-3); }},
      {"cap", [](O& o) { o.until_converged().update_steps_eps(1e-3).update_steps_cap(3); }},
      {"rule of heads",
       [](O& o) {
         o.update_steps_max(9).update_steps_eps({0.3, 1e-2}).stop_rule(StopRule::per_head);
       }},
      {"last gradient", [](O& o) { o.fixed_steps(3).gradient(Gradient::last(1)); }},
      {"last two, beta of each head", [=](O& o) { o.fixed_steps(3).gradient(Gradient::last(2)).beta(betas()); }},
      {"gradient of no update", [](O& o) { o.fixed_steps(2).gradient(Gradient::last(0)); }},
      {"last gradient, threshold",
       [](O& o) {
         o.update_steps_max(9).update_steps_eps({0.3, 1e-3}).gradient(Gradient::last(1));
       }},
      {"dropout", [](O& o) { o.fixed_steps(1).dropout(0.4); }},
      {"dropout of all", [](O& o) { o.dropout(1.0); }},
      {"dropout, last gradient, beta of each head",
       [=](O& o) { o.fixed_steps(3).dropout(0.3).gradient(Gradient::last(1)).beta(betas()); }},
  };
}

at::Tensor excluded_keys() {
  auto mask = at::zeros({kBatch, kKeys}, at::kBool);
  mask[0][4].fill_(true);
  mask[1].slice(0, 3).fill_(true);
  return mask;
}

at::Tensor excluded_scores() {
  auto mask = randn({kBatch, kHeads, kQueries, kKeys}, 31) > 0.7;
  mask.select(3, 0).fill_(false);
  return mask;
}

at::Tensor bias_of_keys(at::IntArrayRef shape) {
  auto bias = randn(shape, 32);
  bias.view({-1})[1].fill_(-kInfinity);
  return bias;
}

template <typename Input>
struct InputCase {
  std::string name;
  Input input;
};

/// Ways to mask dense patterns.
template <typename Input>
std::vector<InputCase<Input>> masked(const Input& plain) {
  std::vector<InputCase<Input>> all{{"plain", plain}};
  const auto add = [&](const char* name, const auto& change) {
    all.push_back({name, plain});
    change(all.back().input);
  };
  add("padding", [](Input& in) { in.masks.padding_mask = excluded_keys(); });
  add("key bias", [](Input& in) { in.masks.key_bias = bias_of_keys({kBatch, kKeys}); });
  add("shared key bias", [](Input& in) { in.masks.key_bias = bias_of_keys({1, kKeys}); });
  add("excluded scores", [](Input& in) { in.masks.association_mask = excluded_scores(); });
  add("added scores", [](Input& in) { in.masks.association_mask = randn({1, kHeads, 1, kKeys}, 33); });
  add("all", [](Input& in) {
    in.masks.padding_mask = excluded_keys();
    in.masks.key_bias = bias_of_keys({kBatch, kKeys});
    in.masks.association_mask = randn({kBatch, 1, kQueries, kKeys}, 33);
  });
  return all;
}

const at::Tensor& offsets() {
  static const auto tensor = at::tensor({int64_t{0}, int64_t{4}, int64_t{6}});
  return tensor;
}

std::vector<InputCase<RetrieveInput>> retrieve_inputs() {
  RetrieveInput dense;
  dense.state = randn({kBatch, kHeads, kQueries, kDepth}, 1);
  dense.stored = randn({kBatch, kHeads, kKeys, kDepth}, 2);
  auto all = masked(dense);
  auto valued = dense;
  valued.projection = randn({kBatch, kHeads, kKeys, kWidth}, 3);
  for (auto& masked_case : masked(valued)) {
    masked_case.name += ", values";
    all.push_back(masked_case);
  }
  auto shared = valued;
  shared.stored = randn({1, kHeads, kKeys, kDepth}, 4);
  shared.projection = randn({1, kHeads, kKeys, kWidth}, 5);
  shared.masks.padding_mask = excluded_keys();
  all.push_back({"shared by the batch", shared});
  auto ragged = dense;
  ragged.stored = randn({kKeys, kHeads, kDepth}, 6);
  ragged.offsets = offsets();
  all.push_back({"ragged", ragged});
  ragged.projection = randn({kKeys, 1, kWidth}, 7);
  ragged.masks.key_bias = bias_of_keys({kKeys});
  all.push_back({"ragged, values, key bias", ragged});
  return all;
}

std::vector<InputCase<PoolInput>> pool_inputs() {
  // Instances of so small a variance that the eps of the norm matters.
  PoolInput dense;
  dense.instances = 0.3 * randn({kBatch, kKeys, kWidth}, 1) + 0.1;
  dense.state = randn({1, kHeads, kQueries, kDepth}, 2);
  dense.weight = randn({kHeads, kDepth, kWidth}, 3) / 2;
  auto all = masked(dense);
  auto normed = dense;
  normed.bias = randn({kHeads, kDepth}, 4);
  normed.state = randn({kBatch, kHeads, kQueries, kDepth}, 5);
  normed.normalize_eps = 0.05;
  for (auto& masked_case : masked(normed)) {
    masked_case.name += ", bias, norm";
    all.push_back(masked_case);
  }
  normed.normalize_eps = 0.0;
  all.push_back({"norm without eps", normed});
  auto ragged = dense;
  ragged.instances = dense.instances[0];
  ragged.offsets = offsets();
  all.push_back({"ragged", ragged});
  ragged.bias = normed.bias;
  ragged.normalize_eps = 0.05;
  ragged.masks.key_bias = bias_of_keys({kKeys});
  all.push_back({"ragged, bias, norm, key bias", ragged});
  return all;
}

struct Results {
  RetrieveResult differentiated, inspected;  // the latter without gradients, with everything that can be asked for
  at::Tensor mass;
  std::vector<at::Tensor> gradients;
};

std::vector<at::Tensor*> differentiable(RetrieveInput& in) { return {&in.state, &in.stored, &in.projection}; }
std::vector<at::Tensor*> differentiable(PoolInput& in) { return {&in.instances, &in.state, &in.weight, &in.bias}; }

at::Tensor weighted(const std::vector<at::Tensor>& tensors, uint64_t seed) {
  auto total = at::zeros({}, at::TensorOptions(test_device()).dtype(at::kDouble));
  for (const auto& tensor : tensors) {
    ++seed;
    if (!tensor.defined() || !tensor.requires_grad()) continue;
    const auto finite = tensor.to(at::kDouble).masked_fill(at::isneginf(tensor), 0.0);
    total = total + (finite * randn(tensor.sizes(), seed).to(test_device())).sum();
  }
  return total;
}

Results call(const RetrieveInput& in, const RetrieveOptions& options) { return {retrieve(in, options), {}, {}, {}}; }
Results call(const PoolInput& in, const RetrieveOptions& options) {
  const auto pooled = pool(in, options);
  return {pooled, {}, pooled.mass, {}};
}

/// Moves all that has a precision to the device, in that precision.
template <typename Input>
Input in_type(Input in, at::ScalarType type) {
  for (auto* tensor : differentiable(in)) {
    if (tensor->defined()) *tensor = tensor->detach().to(test_device(), type);
  }
  for (auto* tensor : {&in.masks.association_mask, &in.masks.padding_mask, &in.masks.key_bias}) {
    if (tensor->defined()) *tensor = tensor->to(test_device(), tensor->scalar_type() == at::kBool ? at::kBool : type);
  }
  return in;
}

/// Computes values and first derivatives, and the derivatives of a sum of these if `twice` is set.
template <typename Input>
Results run(Input in, RetrieveOptions options, at::ScalarType type, bool twice) {
  std::vector<at::Tensor> leaves;
  in = in_type(in, type);
  for (auto* tensor : differentiable(in)) {
    if (tensor->defined()) leaves.push_back(tensor->requires_grad_(true));
  }
  if (options.beta().defined() && options.beta().requires_grad()) leaves.push_back(options.beta());
  options.generator(at::detail::createCPUGenerator(7));
  auto r = call(in, options);
  const auto& v = r.differentiated;
  const auto loss = weighted({v.output, v.state, v.logsumexp, r.mass}, 40);
  r.gradients = torch::autograd::grad({loss}, leaves, {}, true, twice, true);
  if (!twice) {
    const at::NoGradGuard no_grad;
    if constexpr (std::is_same_v<Input, RetrieveInput>)
      options.with_energy(options.dropout() == 0 && !in.offsets.defined());
    r.inspected = call(in, options.with_scores()).differentiated;
    return r;
  }
  for (const auto& gradient :
       torch::autograd::grad({weighted(r.gradients, 60)}, leaves, {}, std::nullopt, false, true)) {
    r.gradients.push_back(gradient);
  }
  return r;
}

void compare(const Results& fused, const Results& plain) {
  expect_close_results(fused.differentiated, plain.differentiated);
  if (plain.inspected.output.defined()) expect_close_results(fused.inspected, plain.inspected);
  expect_close(fused.mass, plain.mass, "mass");
  for (size_t i = 0; i < plain.gradients.size(); ++i) {
    const auto& gradient = fused.gradients[i];
    if (!plain.gradients[i].defined()) continue;
    expect_close(gradient.defined() ? gradient : at::zeros_like(plain.gradients[i]), plain.gradients[i],
                 c10::str("gradient ", i));
  }
}

/// Moves the tensors to the device, in the precision that the fused kernels serve.
template <typename Input>
Input in_floats(Input input) {
  for (auto* tensor : differentiable(input)) {
    if (tensor->defined()) *tensor = tensor->to(test_device(), at::kFloat);
  }
  return input;
}

/// Each option is tested with one input out of so many. The host takes long for the GPU's kernels.
int64_t stride() { return kernels_run_on_host ? 3 : 1; }

/// Whether the derivatives are differentiated once more. These second derivatives are not computed by the kernels.
std::vector<bool> orders() { return kernels_run_on_host ? std::vector<bool>{false} : std::vector<bool>{false, true}; }

template <typename Input>
void compare_all(const std::vector<InputCase<Input>>& inputs) {
  int64_t met = 0, compared = 0;
  for (const auto& [input_name, input] : inputs) {
    ++met;
    for (const auto& [name, apply] : all_options()) {
      if (++met % stride() != 0) continue;
      const ::testing::ScopedTrace trace(__FILE__, __LINE__, input_name + ": " + name);
      auto options = RetrieveOptions();
      apply(options);
      const auto floats = in_floats(input);
      for (const bool twice : orders()) {
        auto fused = RetrieveOptions(options).backend(Backend::fused);
        if (why_not_fused(floats, fused)) continue;
        ++compared;
        const auto composite = RetrieveOptions(options).backend(Backend::composite);
        compare(run(floats, fused, at::kFloat, twice), run(floats, composite, at::kDouble, twice));
        EXPECT_TRUE(testing::decides_clearly(
            composite, [&](const auto& o) { return call(in_type(floats, at::kDouble), o).differentiated.steps; }));
      }
    }
  }
  EXPECT_GT(compared, 200 / (stride() * stride()));
}

TEST(OpOptions, OfRetrieve) { compare_all(retrieve_inputs()); }

TEST(OpOptions, OfPool) { compare_all(pool_inputs()); }

TEST(OpOptions, OfTheImplicitGradient) {
  int64_t met = 0, compared = 0;
  for (const auto& [input_name, input] : retrieve_inputs()) {
    for (const bool trained_beta : {false, true}) {
      if (++met % stride() != 0) continue;
      const ::testing::ScopedTrace trace(__FILE__, __LINE__, c10::str(input_name, ", trained beta ", trained_beta));
      auto options = RetrieveOptions().until_converged().update_steps_eps(1e-3).gradient(Gradient::implicit());
      options.beta(at::tensor({0.2, 0.35}, at::kDouble).requires_grad_(trained_beta));
      const auto floats = in_floats(input);
      if (why_not_fused(floats, RetrieveOptions(options).backend(Backend::fused))) continue;
      ++compared;
      const auto composite = RetrieveOptions(options).backend(Backend::composite);
      compare(run(floats, RetrieveOptions(options).backend(Backend::fused), at::kFloat, false),
              run(floats, composite, at::kDouble, false));
      EXPECT_TRUE(testing::decides_clearly(
          composite, [&](const auto& o) { return call(in_type(floats, at::kDouble), o).differentiated.steps; }));
    }
  }
  EXPECT_GT(compared, 15 / stride());
}

}  // namespace
}  // namespace hopfield
