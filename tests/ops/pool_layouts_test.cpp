// These tests call pool() with any strides, any size down to zero and any number of bags. ops_test runs them with the
// kernels of the device at hand, ops_on_host_test with the GPU's kernels on the host.

#include "support/device.h"
#include "support/member.h"
#include "support/naive.h"
#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

#include <limits>
#include <optional>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::randn;
using testing::runs_the_gpus_kernels;
using testing::test_device;

at::Tensor floats(at::IntArrayRef shape, uint64_t seed) { return randn(shape, seed).to(test_device(), at::kFloat); }

PoolInput dense_input() {
  PoolInput in;
  in.instances = floats({3, 40, 20}, 1);
  in.state = floats({3, 2, 3, 5}, 2);
  in.weight = floats({2, 5, 20}, 3) / 4;
  in.bias = floats({2, 5}, 4);
  in.masks.padding_mask = floats({3, 40}, 5) > 0.8;
  in.masks.key_bias = floats({3, 40}, 6);
  in.normalize_eps = 1e-5;
  return in;
}

PoolInput ragged_input() {
  auto in = dense_input();
  in.instances = floats({70, 20}, 1);
  in.offsets = at::tensor({int64_t{0}, int64_t{25}, int64_t{25}, int64_t{70}});
  in.masks.padding_mask = at::Tensor();
  in.masks.key_bias = floats({70}, 6);
  return in;
}

RetrieveOptions two_updates() { return RetrieveOptions().fixed_steps(2).backend(Backend::fused); }

std::vector<at::Tensor> outputs_of(const PoolResult& r) { return {r.output, r.state, r.logsumexp, r.mass}; }

using Layout = at::Tensor (*)(const at::Tensor&);

/// Outputs and the gradients of instances, state, weight and bias, for random incoming gradients of a layout.
std::vector<at::Tensor> everything(PoolInput in, const RetrieveOptions& options, Layout incoming = nullptr) {
  std::vector<at::Tensor> leaves, gradients;
  for (auto* tensor : {&in.instances, &in.state, &in.weight, &in.bias}) {
    if (!tensor->defined()) continue;
    *tensor = tensor->detach().requires_grad_(true);
    leaves.push_back(*tensor);
  }
  auto all = outputs_of(pool(in, options));
  for (size_t i = 0; i < all.size(); ++i) {
    gradients.push_back(floats(all[i].sizes(), 20 + i));
    if (incoming != nullptr) gradients.back() = incoming(gradients.back());
  }
  for (const auto& gradient : torch::autograd::grad(all, leaves, gradients)) all.push_back(gradient);
  return all;
}

void expect_same_bits(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(bitwise_equal(found[i].cpu(), expected[i].cpu())) << "tensor " << i;
  }
}

// Layouts have the same values in other places, with NaN (or a wrong number) around them.

at::Tensor filler(const at::Tensor& like) {
  return at::isFloatingType(like.scalar_type()) ? at::full_like(like, std::numeric_limits<double>::quiet_NaN())
                                                : at::ones_like(like);
}
at::Tensor transposed(const at::Tensor& x) {
  return x.dim() < 2 ? x : x.transpose(-1, -2).contiguous().transpose(-1, -2);
}
at::Tensor batch_last(const at::Tensor& x) { return x.movedim(0, -1).contiguous().movedim(-1, 0); }
at::Tensor rows_apart(const at::Tensor& x) { return at::cat({x, filler(x)}, -1).narrow(-1, 0, x.size(-1)); }
at::Tensor every_second_row(const at::Tensor& x) { return at::stack({x, filler(x)}, 1).select(1, 0); }
at::Tensor every_second_number(const at::Tensor& x) { return at::stack({filler(x), x}, -1).select(-1, 1); }
at::Tensor one_element_in(const at::Tensor& x) {
  const auto flat = x.reshape({-1});
  return at::cat({filler(flat.narrow(0, 0, 1)), flat}).narrow(0, 1, flat.size(0)).view(x.sizes());
}

struct NamedLayout {
  const char* name;
  Layout apply;
};
const std::vector<NamedLayout> kLayouts{{"transposed", transposed},
                                        {"batch_last", batch_last},
                                        {"rows_apart", rows_apart},
                                        {"every_second_row", every_second_row},
                                        {"every_second_number", every_second_number},
                                        {"one_element_in", one_element_in}};

TEST(PoolLayouts, ChangeNoBits) {
  for (const auto& plain : {dense_input(), ragged_input()}) {
    const auto expected = everything(plain, two_updates());
    for (const auto& member :
         testing::Members<PoolInput>{&PoolInput::instances, &PoolInput::offsets, &PoolInput::state, &PoolInput::weight,
                                     &PoolInput::bias, &Masks::padding_mask, &Masks::key_bias}) {
      if (!member(plain).defined()) continue;
      for (const auto& layout : kLayouts) {
        SCOPED_TRACE(c10::str(layout.name, " ", member(plain).sizes()));
        auto in = plain;
        member(in) = layout.apply(member(plain));
        expect_same_bits(everything(in, two_updates()), expected);
      }
    }
  }
}

TEST(PoolLayouts, OfIncomingGradientsChangeNoBits) {
  auto in = ragged_input();
  in.bias = at::Tensor();  // LibTorch sums a part of its gradient, in the order of the strides
  const auto expected = everything(in, two_updates());
  for (const auto& layout : kLayouts) {
    SCOPED_TRACE(layout.name);
    expect_same_bits(everything(in, two_updates(), layout.apply), expected);
  }
}

/// The gradient of sum() has strides that are all zero.
TEST(PoolLayouts, OfSummedResultsChangeNoBits) {
  const auto gradients = [](bool summed) {
    auto in = ragged_input();
    for (auto* tensor : {&in.instances, &in.state, &in.weight, &in.bias}) tensor->requires_grad_(true);
    const auto outputs = outputs_of(pool(in, two_updates()));
    for (const auto& output : outputs) {
      if (summed) {
        output.sum().backward({}, /*retain_graph=*/true);
      } else {
        output.backward(at::ones_like(output), /*retain_graph=*/true);
      }
    }
    return std::vector<at::Tensor>{in.instances.grad(), in.state.grad(), in.weight.grad(), in.bias.grad()};
  };
  expect_same_bits(gradients(true), gradients(false));
}

TEST(PoolLayouts, ExpandedTensorsChangeNoBits) {
  const auto bare = [] {
    auto in = dense_input();
    in.masks.padding_mask = at::Tensor();
    return in;
  };
  auto expanded = bare(), copied = bare();
  expanded.instances = floats({1, 40, 20}, 1).expand({3, -1, -1});
  expanded.state = floats({1, 1, 3, 5}, 2).expand({3, 2, -1, -1});
  expanded.weight = floats({1, 5, 20}, 3).expand({2, -1, -1});
  expanded.bias = floats({2, 1}, 4).expand({-1, 5});
  expanded.masks.key_bias = floats({1, 40}, 6).expand({3, -1});
  for (const auto& member : testing::Members<PoolInput>{&PoolInput::instances, &PoolInput::state, &PoolInput::weight,
                                                        &PoolInput::bias, &Masks::key_bias}) {
    member(copied) = member(expanded).contiguous();
  }
  expect_same_bits(everything(expanded, two_updates()), everything(copied, two_updates()));
  // The op itself shares a mask over the batch if it has one row.
  auto shared = copied;
  shared.masks.key_bias = expanded.masks.key_bias.narrow(0, 0, 1);
  expect_same_bits(everything(shared, two_updates()), everything(copied, two_updates()));
}

TEST(PoolLayouts, OffsetsMayBeAnyIntegersOnAnyDevice) {
  const auto in = ragged_input();
  const auto expected = everything(in, two_updates());
  for (const auto type : {at::kInt, at::kShort, at::kByte, at::kLong}) {
    for (const auto device : {at::Device(at::kCPU), test_device()}) {
      SCOPED_TRACE(c10::str(type, " on ", device));
      auto other = in;
      other.offsets = in.offsets.to(device, type);
      expect_same_bits(everything(other, two_updates()), expected);
    }
  }
}

TEST(PoolLayouts, BetaMayComeFromTheCpu) {
  auto in = ragged_input();
  for (const auto& beta : {at::full({}, 0.7, at::kDouble), at::tensor({0.7}, at::kDouble),
                           at::tensor({0.7, 0.7}, at::kFloat), at::tensor({0.7, 0.7}, at::kDouble)}) {
    auto options = two_updates();
    const auto expected = everything(in, options.beta(beta.to(test_device())));
    expect_same_bits(everything(in, options.beta(beta)), expected);
    // The gradient of beta is on the device of beta.
    const auto leaf = beta.clone().requires_grad_(true);
    pool(in, options.beta(leaf)).output.sum().backward();
    EXPECT_TRUE(leaf.grad().is_cpu());
    EXPECT_TRUE(at::isfinite(leaf.grad()).all().item<bool>());
  }
}

struct Sizes {
  int64_t bags = 2, instances = 3, width = 4, heads = 2, queries = 2, depth = 3;
};

PoolInput input_of(const Sizes& s, bool ragged) {
  PoolInput in;
  in.instances = ragged ? floats({s.bags * s.instances, s.width}, 1) : floats({s.bags, s.instances, s.width}, 1);
  if (ragged) in.offsets = at::arange(s.bags + 1, at::kLong) * s.instances;
  in.state = floats({s.bags, s.heads, s.queries, s.depth}, 2);
  in.weight = floats({s.heads, s.depth, s.width}, 3);
  in.bias = floats({s.heads, s.depth}, 4);
  return in;
}

/// The results must have the same shapes and about the same numbers.
void expect_near(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    const auto a = found[i].to(at::kCPU, at::kDouble), b = expected[i].to(at::kCPU, at::kDouble);
    ASSERT_EQ(a.sizes(), b.sizes()) << "tensor " << i;
    EXPECT_TRUE(at::allclose(a, b, 1e-4, 1e-5, /*equal_nan=*/true)) << "tensor " << i << "\n" << a << "\n" << b;
  }
}

TEST(PoolSizes, AnyOfThemMayBeZero) {
  for (const bool ragged : {false, true}) {
    for (const auto member :
         {&Sizes::bags, &Sizes::instances, &Sizes::width, &Sizes::heads, &Sizes::queries, &Sizes::depth}) {
      for (const int64_t steps : {0, 2}) {
        Sizes sizes;
        sizes.*member = 0;
        SCOPED_TRACE(c10::str(ragged ? "ragged" : "dense", " N ", sizes.bags, " S ", sizes.instances, " d_in ",
                              sizes.width, " H ", sizes.heads, " L ", sizes.queries, " d ", sizes.depth, " T ", steps));
        const auto in = input_of(sizes, ragged);
        const auto options = [&] { return RetrieveOptions().fixed_steps(steps); };
        expect_near(everything(in, options()), everything(in, options().backend(Backend::composite)));
        // The next call must find the device in a sound state.
        EXPECT_EQ(at::ones({5}, at::device(test_device())).sum().item<float>(), 5.0f);
      }
    }
  }
}

TEST(PoolSizes, ScoresOfNothingHaveTheirShape) {
  for (const auto member : {&Sizes::bags, &Sizes::instances, &Sizes::heads, &Sizes::queries}) {
    Sizes s;
    s.*member = 0;
    const auto options = RetrieveOptions().with_scores();
    EXPECT_EQ(pool(input_of(s, false), options).scores.sizes(),
              at::IntArrayRef({s.bags, s.heads, s.queries, s.instances}));
    EXPECT_EQ(pool(input_of(s, true), options).scores.sizes(),
              at::IntArrayRef({s.bags * s.instances, s.heads, s.queries}));
  }
}

/// These are more bags than the second or third extent of a grid can hold.
TEST(PoolSizes, ABatchHoldsMoreThan65535Bags) {
  if (testing::kernels_run_on_host) GTEST_SKIP() << "65537 blocks take the host a minute";
  const int64_t bags = 65537;
  PoolInput in;
  in.instances = floats({bags, 1, 8}, 1);
  in.state = floats({1, 1, 1, 2}, 2);
  in.weight = floats({1, 2, 8}, 3);
  const auto r = pool(in, RetrieveOptions().backend(Backend::fused));
  // A single instance is the mean.
  EXPECT_LT((r.output.view({bags, 8}) - in.instances.view({bags, 8})).abs().max().item<double>(), 1e-6);
}

/// The products of the backward pass stay in float32, whatever the autocast mode of the caller is.
TEST(PoolAutocast, LeavesTheBackwardPassAlone) {
  auto in = ragged_input();
  in.weight.requires_grad_(true);
  const auto device = test_device().type();
  const auto gradient = [&](bool autocast) {
    const auto output = pool(in, two_updates()).output;
    at::autocast::set_autocast_enabled(device, autocast);
    const auto found = torch::autograd::grad({output}, {in.weight}, {at::ones_like(output)})[0];
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device, false);
    return found;
  };
  EXPECT_TRUE(bitwise_equal(gradient(true).cpu(), gradient(false).cpu()));
}

thread_local std::vector<std::string> values_read;

/// Records the operations for which a program would have to wait for the device.
class ReadingObserved {
 public:
  ReadingObserved() {
    values_read.clear();
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback([](const at::RecordFunction& f) -> std::unique_ptr<at::ObserverContext> {
          const std::string name = f.name();
          for (const auto* reader : {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select",
                                     "aten::is_nonzero", "aten::equal"}) {
            if (name == reader) values_read.push_back(name);
          }
          return nullptr;
        }).scopes({at::RecordScope::FUNCTION}));
  }
  ~ReadingObserved() { at::removeCallback(handle_); }

 private:
  at::CallbackHandle handle_;
};

TEST(PoolReading, NeedsNoValuesForFixedSteps) {
  for (const auto backend : {Backend::fused, Backend::composite}) {
    auto in = input_of({}, backend == Backend::fused);
    auto options = RetrieveOptions().fixed_steps(2).backend(backend).beta({0.5, 0.7});
    const ReadingObserved observed;
    everything(in, options);
    pool(in, options.with_scores());
    EXPECT_TRUE(values_read.empty()) << values_read.front();
  }
}

}  // namespace
}  // namespace hopfield
