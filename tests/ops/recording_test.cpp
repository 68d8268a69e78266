// These calls are recorded and not run. Here they get meta tensors; python_parity/test_recording.py has torch.compile
// and torch.export.

#include "support/errors.h"
#include "support/naive.h"
#include "support/retrieve_input.h"
#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

namespace hopfield {
namespace {

using namespace testing;

const std::vector<RetrieveOptions> kOptions{
    RetrieveOptions(), RetrieveOptions().fixed_steps(3).with_scores(), RetrieveOptions().until_converged().dropout(0.5),
    RetrieveOptions().update_steps_max({1, 2}).stop_rule(StopRule::per_head).with_energy(),
    RetrieveOptions().until_converged().gradient(Gradient::implicit()).beta({0.5, 2.0})};

at::Tensor on_meta(const at::Tensor& tensor) { return tensor.defined() ? tensor.to(at::kMeta) : tensor; }

std::vector<at::Tensor> results_of(const RetrieveResult& r) {
  return {r.output, r.state, r.logsumexp, r.steps, r.residual, r.converged, r.energy, r.scores};
}

std::vector<at::Tensor> results_of(const PoolResult& r) {
  auto all = results_of(static_cast<const RetrieveResult&>(r));
  all.push_back(r.mass);
  return all;
}

/// The results must have the same sizes, types and strides, as a recording is compiled for these.
void expect_same_form(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE(i);
    ASSERT_EQ(found[i].defined(), expected[i].defined());
    if (!expected[i].defined()) continue;
    EXPECT_TRUE(found[i].is_meta());
    EXPECT_EQ(found[i].sizes(), expected[i].sizes());
    EXPECT_EQ(found[i].scalar_type(), expected[i].scalar_type());
    for (int64_t d = 0; d < expected[i].dim(); ++d) {
      if (expected[i].size(d) > 1) {
        EXPECT_EQ(found[i].stride(d), expected[i].stride(d)) << "stride " << d;
      }
    }
  }
}

TEST(Recording, KnowsTheFormOfAllResultsOfRetrieve) {
  const c10::InferenceMode inference;
  for (const auto layout : kLayouts) {
    for (const auto mask : kMaskKinds) {
      if (layout == Layout::ragged && (!testing::is_for_ragged(mask) || mask == MaskKind::none)) continue;
      for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16}) {
        for (const auto& options : kOptions) {
          auto in = make_case(layout, mask, true, 3).input;
          for (auto* patterns : {&in.state, &in.stored, &in.projection}) *patterns = patterns->to(type);
          const auto expected = results_of(retrieve(in, options));
          for (auto* tensor : {&in.state, &in.stored, &in.projection, &in.offsets, &in.masks.association_mask,
                               &in.masks.padding_mask, &in.masks.key_bias}) {
            *tensor = on_meta(*tensor);
          }
          auto there = options;
          expect_same_form(results_of(retrieve(in, there.beta(on_meta(options.beta())))), expected);
        }
      }
    }
  }
}

TEST(Recording, KnowsTheFormOfResultsOfFewerDimensions) {
  const c10::InferenceMode inference;
  for (const auto& sizes : {std::vector<int64_t>{5, 4}, {2, 5, 4}}) {
    const auto patterns = randn(sizes, 1);
    const auto options = RetrieveOptions().fixed_steps(1).with_scores().with_energy();
    expect_same_form(results_of(retrieve(on_meta(patterns), on_meta(patterns), options)),
                     results_of(retrieve(patterns, patterns, options)));
  }
}

PoolInput ragged_bags(at::ScalarType type) {
  return {randn({1, 2, 3, 4}, 2).to(type),
          randn({9, 6}, 1).to(type),
          randn({2, 4, 6}, 3).to(type),
          randn({2, 4}, 4).to(type),
          {{}, {}, randn({9}, 5)},
          at::tensor({0, 4, 9}, at::kLong),
          1e-3};
}

PoolInput dense_bags(at::ScalarType type) {
  auto in = ragged_bags(type);
  in.instances = randn({2, 5, 6}, 1).to(type);
  in.offsets = at::Tensor();
  in.masks.key_bias = randn({2, 5}, 5);
  return in;
}

TEST(Recording, KnowsTheFormOfAllResultsOfPool) {
  const c10::InferenceMode inference;
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const auto& given : {ragged_bags(type), dense_bags(type)}) {
      for (auto options : kOptions) {
        options.with_energy(false);
        auto in = given;
        const auto expected = results_of(pool(in, options));
        for (auto* tensor : {&in.instances, &in.offsets, &in.state, &in.weight, &in.bias, &in.masks.key_bias}) {
          *tensor = on_meta(*tensor);
        }
        expect_same_form(results_of(pool(in, options.beta(on_meta(options.beta())))), expected);
      }
    }
  }
}

TEST(Recording, HasGradientsWithoutNumbers) {
  auto in = ragged_bags(at::kFloat);
  std::vector<at::Tensor> leaves;
  for (auto* tensor : {&in.instances, &in.state, &in.weight, &in.bias, &in.masks.key_bias}) {
    leaves.push_back(*tensor = on_meta(*tensor).requires_grad_(true));
  }
  in.offsets = on_meta(in.offsets);
  const auto r = pool(in, RetrieveOptions().until_converged().dropout(0.3));
  const auto gradients = torch::autograd::grad({r.output.sum()}, leaves);
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_TRUE(gradients[i].is_meta());
    EXPECT_EQ(gradients[i].sizes(), leaves[i].sizes());
  }
  EXPECT_FALSE(r.steps.requires_grad());
  EXPECT_FALSE(r.residual.requires_grad());
  expect_error({"second derivative",
                [&] {
                  const auto again = pool(in);
                  torch::autograd::grad({again.output.sum()}, leaves, {}, true, /*create_graph=*/true);
                },
                {"hopfield::pool", "second derivative", "create_graph"}});
}

TEST(Recording, MetaTensorsAreCheckedLikeOthers) {
  auto in = dense_bags(at::kFloat);
  for (auto* tensor : {&in.instances, &in.state, &in.weight, &in.bias}) *tensor = on_meta(*tensor);
  in.masks.key_bias = on_meta(randn({2, 4}, 1));
  expect_error({"key_bias", [&] { pool(in); }, {"key_bias", "[N, S]", "[2, 5]", "[2, 4]"}});
}

/// The ops that a recording has for backward passes, called as it calls them.
class RecordedBackward {
 public:
  explicit RecordedBackward(const char* name) : name_(name) {
    forward_.resize(find(name_).schema().arguments().size());
    for (size_t i = 0; i < forward_.size(); ++i) {
      forward_[i] = find(name_).schema().arguments()[i].default_value().value_or(c10::IValue());
    }
  }

  int64_t place(const char* name) const { return find(name_).schema().argumentIndexWithName(name).value(); }
  c10::IValue& argument(const char* name) { return forward_.at(static_cast<size_t>(place(name))); }

  std::vector<at::Tensor> forward() const {
    auto stack = forward_;
    find(name_).callBoxed(stack);
    std::vector<at::Tensor> results;
    for (const auto& result : stack) results.push_back(result.toTensor());
    return results;
  }

  /// The gradient of one of the results, which is by default the output.
  std::vector<at::Tensor> gradients(const at::Tensor& gradient, const std::vector<int64_t>& wanted,
                                    size_t result = 0) const {
    c10::List<std::optional<at::Tensor>> incoming;
    incoming.resize(find(name_).schema().returns().size());
    incoming.set(result, gradient);
    torch::jit::Stack stack{incoming, wanted};
    stack.insert(stack.end(), forward_.begin(), forward_.end());
    find(name_ + "_backward").callBoxed(stack);
    return stack.at(0).toTensorVector();
  }

 private:
  static c10::OperatorHandle find(const std::string& name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), "");
  }

  std::string name_;
  torch::jit::Stack forward_;
};

TEST(Recording, BackwardOpsGiveTheGradientsOfTheSameCall) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    RecordedBackward op("hopfield::pool");
    const auto in = ragged_bags(type);
    op.argument("instances") = in.instances.clone().requires_grad_(true);
    op.argument("state") = in.state;
    op.argument("weight") = in.weight.clone().requires_grad_(true);
    op.argument("offsets") = in.offsets;
    op.argument("key_bias") = in.masks.key_bias.to(type).requires_grad_(true);  // its gradient by plain operations
    op.argument("update_steps_max") = std::vector<int64_t>{2};
    op.argument("dropout") = 0.4;
    op.argument("seed") = at::full({}, int64_t{12345}, at::kLong);
    const auto output = op.forward().front();
    const auto incoming = randn(output.sizes(), 9).to(type);
    const auto expected = torch::autograd::grad(
        {output},
        {op.argument("instances").toTensor(), op.argument("weight").toTensor(), op.argument("key_bias").toTensor()},
        {incoming});
    const at::NoGradGuard no_grad;
    const auto found = op.gradients(incoming, {op.place("instances"), op.place("weight"), op.place("key_bias")});
    ASSERT_EQ(found.size(), 3u);
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_TRUE(bitwise_equal(found[i], expected[i])) << i;
      EXPECT_TRUE(found[i].is_contiguous());
      EXPECT_FALSE(found[i].requires_grad());
    }
  }
}

TEST(Recording, BackwardOpsShareNoMemoryWithWhatComesIn) {
  RecordedBackward op("hopfield::retrieve");
  op.argument("state") = randn({2, 1, 1, 4}, 1);
  op.argument("stored") = randn({2, 1, 5, 4}, 2);
  op.argument("association_mask") = randn({2, 1, 1, 5}, 3);
  op.argument("key_bias") = randn({2, 5}, 4);
  const auto incoming = randn({2, 1, 1, 4}, 5);
  // Without updates the state is the query, and bias and mask are added: their gradients are each other's.
  for (const size_t result : {0, 1}) {
    const auto found = op.gradients(
        incoming, {op.place("state"), op.place("stored"), op.place("association_mask"), op.place("key_bias")}, result);
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_FALSE(found[i].is_alias_of(incoming)) << result << " " << i;
      for (size_t j = 0; j < i; ++j) EXPECT_FALSE(found[i].is_alias_of(found[j])) << result << " " << i << " " << j;
    }
  }
  // A mask that was not given has no gradient, and asking for it must not fail.
  EXPECT_TRUE(op.gradients(incoming, {}).empty());
}

TEST(Recording, TheSeedIsTheMasks) {
  RecordedBackward op("hopfield::retrieve");
  op.argument("state") = randn({2, 2, 3, 4}, 1);
  op.argument("stored") = randn({2, 2, 5, 4}, 2);
  op.argument("dropout") = 0.5;
  op.argument("seed") = at::full({}, int64_t{7}, at::kLong);
  const auto first = op.forward().front();
  EXPECT_TRUE(bitwise_equal(op.forward().front(), first));
  op.argument("seed") = at::full({}, int64_t{8}, at::kLong);
  EXPECT_FALSE(bitwise_equal(op.forward().front(), first));
  op.argument("seed") = randn({2}, 1);
  expect_error({"seed", [&] { op.forward(); }, {"seed", "int64", "[2]"}});
}

}  // namespace
}  // namespace hopfield
