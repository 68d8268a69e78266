// These tests call retrieve() with patterns of any strides, sizes of zero and many batch elements, on the kernels of
// the device at hand. They ask for gradients where the kernels have them.

#include "support/device.h"
#include "support/naive.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::randn;
using testing::test_device;

at::Tensor numbers(at::IntArrayRef shape, uint64_t seed, at::ScalarType type = at::kFloat) {
  return randn(shape, seed).to(test_device(), type);
}

RetrieveOptions updates(int64_t steps) {
  return RetrieveOptions().beta(0.4).fixed_steps(steps).backend(Backend::fused);
}

constexpr at::Tensor RetrieveInput::*kPatterns[] = {&RetrieveInput::state, &RetrieveInput::stored,
                                                    &RetrieveInput::projection};

/// The results that have a gradient.
std::vector<at::Tensor> differentiable(const RetrieveResult& r) { return {r.output, r.state, r.logsumexp}; }

/// Output, state, logsumexp, and if wanted the gradients of the patterns.
std::vector<at::Tensor> everything(RetrieveInput in, const RetrieveOptions& options, bool with_gradient) {
  std::vector<at::Tensor> leaves, incoming;
  if (with_gradient) {
    for (const auto member : kPatterns) {
      if ((in.*member).defined()) leaves.push_back(in.*member = (in.*member).detach().requires_grad_(true));
    }
  }
  auto all = differentiable(retrieve(in, options));
  for (const auto& output : all) incoming.push_back(output.detach().cos());
  if (with_gradient) {
    for (const auto& gradient : torch::autograd::grad(all, leaves, incoming)) all.push_back(gradient);
  }
  for (auto& tensor : all) tensor = tensor.detach();
  return all;
}

/// The reason why the kernels do not serve this call with a gradient, or nothing if they do.
std::optional<std::string> why_no_gradient(RetrieveInput in, const RetrieveOptions& options) {
  in.state = in.state.detach().requires_grad_(true);
  return why_not_fused(in, options);
}

void expect_near(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i].sizes(), expected[i].sizes()) << "tensor " << i;
    EXPECT_TRUE(at::allclose(found[i].to(at::kDouble), expected[i].to(at::kDouble), tolerance, tolerance))
        << "tensor " << i;
  }
}

RetrieveInput plain_input(at::ScalarType type) {
  RetrieveInput in;
  in.state = numbers({3, 2, 19, 20}, 1, type);
  in.stored = numbers({3, 2, 45, 20}, 2, type);
  in.projection = numbers({3, 2, 45, 13}, 3, type);
  return in;
}

/// The same numbers in other places.
at::Tensor with_heads_last(const at::Tensor& x) { return x.transpose(1, 2).contiguous().transpose(1, 2); }
at::Tensor with_rows_last(const at::Tensor& x) { return x.transpose(2, 3).contiguous().transpose(2, 3); }
at::Tensor with_batch_last(const at::Tensor& x) { return x.permute({3, 1, 2, 0}).contiguous().permute({3, 1, 2, 0}); }
at::Tensor at_odd_places(const at::Tensor& x) {
  const auto width = x.size(3);
  return at::full({x.size(0), x.size(1), x.size(2), width + 4}, std::numeric_limits<double>::quiet_NaN(), x.options())
      .slice(3, 3, 3 + width)
      .copy_(x);
}

class RetrieveLayouts : public ::testing::TestWithParam<bool> {  // with gradient
 protected:
  static bool with_gradient() { return GetParam(); }
  void SetUp() override {
    const auto reason = with_gradient() ? why_no_gradient(plain_input(at::kFloat), updates(2)) : std::nullopt;
    if (reason) GTEST_SKIP() << *reason;
  }
};

TEST_P(RetrieveLayouts, StridesMoveNoBit) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    for (const int64_t steps : {0, 2}) {
      const auto in = plain_input(type);
      const auto expected = everything(in, updates(steps), with_gradient());
      for (const auto place : {with_heads_last, with_rows_last, with_batch_last, at_odd_places}) {
        auto moved = in;
        for (const auto member : kPatterns) moved.*member = place(in.*member);
        const auto found = everything(moved, updates(steps), with_gradient());
        ASSERT_EQ(found.size(), expected.size());
        for (size_t i = 0; i < found.size(); ++i) {
          EXPECT_TRUE(bitwise_equal(found[i].cpu(), expected[i].cpu())) << type << " T " << steps << " tensor " << i;
        }
      }
    }
  }
}

/// Patterns that the caller expanded must give the same as patterns that are repeated in memory.
TEST_P(RetrieveLayouts, ExpandedPatterns) {
  const auto in = plain_input(at::kFloat);
  const auto expand = [](const at::Tensor& x, at::IntArrayRef by) {
    auto one = x;
    for (int64_t i = 0; i < 4; ++i) one = one.slice(i, 0, by[i] < 0 ? x.size(i) : 1);
    return one.expand_as(x);
  };
  for (const auto& by : {std::vector<int64_t>{1, -1, -1, -1}, {-1, 1, -1, -1}, {1, 1, -1, -1}, {1, 1, 1, -1}}) {
    auto expanded = in, repeated = in;
    for (const auto member : kPatterns) {
      expanded.*member = expand(in.*member, by);
      repeated.*member = (expanded.*member).contiguous();
    }
    expect_near(everything(expanded, updates(2), with_gradient()), everything(repeated, updates(2), with_gradient()),
                1e-5);
  }
}

/// Patterns with dimensions of size 1 must give the same as patterns that are repeated in memory.
TEST_P(RetrieveLayouts, SharedPatterns) {
  for (const auto& [batch, heads] : {std::pair{1, 2}, {3, 1}, {1, 1}}) {
    auto shared = plain_input(at::kFloat), repeated = shared;
    for (const auto member : {&RetrieveInput::stored, &RetrieveInput::projection}) {
      shared.*member = (shared.*member).slice(0, 0, batch).slice(1, 0, heads).contiguous();
      repeated.*member = (shared.*member).expand_as(repeated.*member).contiguous();
    }
    const auto found = everything(shared, updates(2), with_gradient());
    auto expected = everything(repeated, updates(2), with_gradient());
    for (size_t i = 4; i < expected.size(); ++i) {  // of what is repeated, the gradient of the shared is the sum
      if (batch == 1) expected[i] = expected[i].sum(0, /*keepdim=*/true);
      if (heads == 1) expected[i] = expected[i].sum(1, /*keepdim=*/true);
    }
    expect_near(found, expected, 2e-5);
  }
}

TEST_P(RetrieveLayouts, FewerDimensions) {
  const auto in = plain_input(at::kFloat);
  auto three = in, two = in, four = in;
  for (const auto member : kPatterns) {
    four.*member = (in.*member).slice(0, 0, 1).slice(1, 0, 1);
    three.*member = (four.*member).squeeze(1);
    two.*member = (three.*member).squeeze(0);
  }
  const auto expected = everything(four, updates(2), with_gradient());
  for (const auto& fewer : {three, two}) {
    const auto found = everything(fewer, updates(2), with_gradient());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_TRUE(bitwise_equal(found[i].cpu().reshape(expected[i].sizes()), expected[i].cpu())) << i;
    }
  }
}

TEST_P(RetrieveLayouts, SizesOfZero) {
  for (const bool ragged : {false, true}) {
    for (const bool shared : {false, true}) {
      for (size_t zero = 0; zero < 6; ++zero) {
        std::array<int64_t, 6> n{2, 2, 3, 5, 4, 3};
        n[zero] = 0;
        const auto [batch, heads, queries, keys, depth, width] = n;
        const int64_t sets = shared ? 1 : batch, of_heads = shared ? 1 : heads;
        RetrieveInput in;
        in.state = numbers({batch, heads, queries, depth}, 1);
        in.stored = ragged ? numbers({keys, of_heads, depth}, 2) : numbers({sets, of_heads, keys, depth}, 2);
        in.projection = ragged ? numbers({keys, of_heads, width}, 3) : numbers({sets, of_heads, keys, width}, 3);
        if (ragged) {
          if (batch == 0) continue;  // whose instances would be nobody's
          in.offsets = at::tensor({int64_t{0}, keys / 2, keys}).to(test_device());
        }
        SCOPED_TRACE(c10::str("size ", zero, ragged ? ", ragged" : "", shared ? ", shared" : ""));
        for (const int64_t steps : {0, 1}) {
          expect_near(everything(in, updates(steps), with_gradient()),
                      everything(in, updates(steps).backend(Backend::composite), with_gradient()), 1e-5);
        }
      }
    }
  }
}

/// These are more batch elements than a grid is high. Each has its own patterns, unless the host would take minutes.
TEST_P(RetrieveLayouts, ManyBatchElements) {
  constexpr int64_t kBatch = 65537;
  const bool slow = testing::runs_the_gpus_kernels() && !test_device().is_cuda();
  for (const int64_t sets : {int64_t{1}, kBatch}) {
    if (slow && (sets > 1 || with_gradient())) continue;
    RetrieveInput in;
    in.state = numbers({kBatch, 1, 1, 8}, 1, at::kBFloat16);
    in.stored = numbers({sets, 1, 3, 8}, 2, at::kBFloat16);
    const auto all = everything(in, updates(1), with_gradient());
    for (const int64_t n : {int64_t{0}, int64_t{63}, int64_t{65535}, kBatch - 1}) {
      auto one = in;
      one.state = in.state.narrow(0, n, 1);
      if (sets > 1) one.stored = in.stored.narrow(0, n, 1);
      const auto alone = everything(one, updates(1), with_gradient());
      for (size_t i = 0; i < alone.size(); ++i) {
        if (i == 4 && sets == 1) continue;  // the shared patterns' gradient is everybody's
        // The CPU's kernels add up in another order where queries are few.
        const bool near = !testing::runs_the_gpus_kernels() && at::allclose(all[i][n], alone[i][0], 1e-2, 1e-5);
        EXPECT_TRUE(near || bitwise_equal(all[i][n], alone[i][0]))
            << sets << " sets, element " << n << ", tensor " << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forward, RetrieveLayouts, ::testing::Values(false));
INSTANTIATE_TEST_SUITE_P(Backward, RetrieveLayouts, ::testing::Values(true));

}  // namespace
}  // namespace hopfield
