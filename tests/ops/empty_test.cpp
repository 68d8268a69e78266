// These tests combine sizes of zero with every kind of mask. ops_test runs them with the kernels of the device at hand,
// ops_on_host_test with the GPU's kernels on the host.

#include "support/device.h"
#include "support/naive.h"
#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

#include <limits>

namespace hopfield {
namespace {

using testing::randn;
using testing::test_device;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

at::Tensor floats(at::IntArrayRef shape, uint64_t seed) { return randn(shape, seed).to(test_device(), at::kFloat); }
at::Tensor flags(at::IntArrayRef shape, uint64_t seed) { return floats(shape, seed) > 0; }

struct Sizes {
  int64_t batch = 2, heads = 2, queries = 3, keys = 5, depth = 4, width = 6;
};

struct Masks {
  const char* name;
  bool padding, key_bias, shared_key_bias, boolean, floating;
};

constexpr Masks kMasks[] = {{"no mask", false, false, false, false, false},
                            {"padding", true, false, false, false, false},
                            {"key bias", false, true, false, false, false},
                            {"shared key bias", false, false, true, false, false},
                            {"padding and key bias", true, true, false, false, false},
                            {"boolean mask", false, false, false, true, false},
                            {"added mask", false, false, false, false, true},
                            {"padding, key bias and added mask", true, true, false, false, true}};

template <typename Input>
void set_masks(Input& input, const Masks& masks, const Sizes& s) {
  if (masks.padding) input.masks.padding_mask = flags({s.batch, s.keys}, 11);
  if (masks.key_bias) input.masks.key_bias = floats({s.batch, s.keys}, 12);
  if (masks.shared_key_bias) input.masks.key_bias = floats({1, s.keys}, 12);
  if (masks.boolean) input.masks.association_mask = flags({s.batch, s.heads, s.queries, s.keys}, 13);
  if (masks.floating) input.masks.association_mask = floats({s.batch, 1, s.queries, s.keys}, 14);
}

/// Value and gradients; the loss is their sum.
std::vector<at::Tensor> everything(const RetrieveResult& r, const std::vector<at::Tensor>& leaves) {
  std::vector<at::Tensor> all{r.output, r.state, r.logsumexp};
  if (!r.output.requires_grad()) return all;
  const auto finite = r.logsumexp.masked_fill(at::isneginf(r.logsumexp.detach()), 0.0);
  for (const auto& gradient : torch::autograd::grad({r.output.sum() + r.state.sum() + finite.sum()}, leaves, {}, false,
                                                    false, /*allow_unused=*/true)) {
    all.push_back(gradient.defined() ? gradient : at::zeros({}));
  }
  return all;
}

void expect_near(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    const auto a = found[i].detach().to(at::kCPU, at::kDouble), b = expected[i].detach().to(at::kCPU, at::kDouble);
    ASSERT_EQ(a.sizes(), b.sizes()) << "tensor " << i;
    EXPECT_TRUE(at::allclose(a, b, 1e-4, 1e-5)) << "tensor " << i << "\n" << a << "\n" << b;
  }
}

/// Runs both backends forward and backward. A batch in which nothing can be attended to gives zeros.
template <typename Call>
void expect_both_backends_agree(const Call& call, bool nothing_to_attend_to) {
  for (const int64_t steps : {0, 2}) {
    const auto options = RetrieveOptions().fixed_steps(steps).beta(0.5);
    const auto plain = call(RetrieveOptions(options).backend(Backend::composite));
    const auto automatic = call(options);
    expect_near(automatic, plain);
    if (!nothing_to_attend_to) continue;
    EXPECT_EQ(automatic[0].abs().sum().template item<double>(), 0);
    EXPECT_TRUE(automatic[2].eq(-kInfinity).all().template item<bool>());
  }
}

constexpr int64_t Sizes::*kSizes[] = {&Sizes::batch, &Sizes::heads, &Sizes::queries,
                                      &Sizes::keys,  &Sizes::depth, &Sizes::width};

std::string name_of(const Masks& masks, const Sizes& s) {
  return c10::str(masks.name, " N ", s.batch, " H ", s.heads, " L ", s.queries, " S ", s.keys, " d ", s.depth, " d_v ",
                  s.width);
}

TEST(Empty, RetrieveTakesAnySizeOfZeroWithAnyMask) {
  for (const auto& masks : kMasks) {
    for (const auto member : kSizes) {
      for (const bool shared : {false, true}) {
        Sizes sizes;
        sizes.*member = 0;
        SCOPED_TRACE(name_of(masks, sizes));
        const auto call = [&](const RetrieveOptions& options) {
          RetrieveInput in;
          const auto sets = shared ? 1 : sizes.batch;
          in.state = floats({sizes.batch, sizes.heads, sizes.queries, sizes.depth}, 1).requires_grad_(true);
          in.stored = floats({sets, sizes.heads, sizes.keys, sizes.depth}, 2).requires_grad_(true);
          in.projection = floats({sets, sizes.heads, sizes.keys, sizes.width}, 3).requires_grad_(true);
          set_masks(in, masks, sizes);
          return everything(retrieve(in, options), {in.state, in.stored, in.projection});
        };
        expect_both_backends_agree(call, sizes.keys == 0);
      }
    }
  }
}

TEST(Empty, PoolTakesAnySizeOfZeroWithAnyMask) {
  for (const auto& masks : kMasks) {
    for (const auto member : kSizes) {
      Sizes sizes;
      sizes.*member = 0;
      SCOPED_TRACE(name_of(masks, sizes));
      const auto call = [&](const RetrieveOptions& options) {
        PoolInput in;
        in.instances = floats({sizes.batch, sizes.keys, sizes.width}, 1).requires_grad_(true);
        in.state = floats({1, sizes.heads, sizes.queries, sizes.depth}, 2).requires_grad_(true);
        in.weight = floats({sizes.heads, sizes.depth, sizes.width}, 3).requires_grad_(true);
        in.bias = floats({sizes.heads, sizes.depth}, 4).requires_grad_(true);
        in.normalize_eps = 1e-3;
        set_masks(in, masks, sizes);
        return everything(pool(in, options), {in.instances, in.state, in.weight, in.bias});
      };
      expect_both_backends_agree(call, sizes.keys == 0);
    }
  }
}

TEST(Empty, RaggedBatchesOfEmptyBagsHaveKeyBiases) {
  for (const int64_t bags : {0, 1, 3}) {
    const auto offsets = at::zeros({bags + 1}, at::kLong);
    expect_both_backends_agree(
        [&](const RetrieveOptions& options) {
          RetrieveInput in;
          in.state = floats({bags, 2, 3, 4}, 1).requires_grad_(true);
          in.stored = floats({0, 2, 4}, 2).requires_grad_(true);
          in.offsets = offsets;
          in.masks.key_bias = floats({0}, 3);
          return everything(retrieve(in, options), {in.state, in.stored});
        },
        true);
    expect_both_backends_agree(
        [&](const RetrieveOptions& options) {
          PoolInput in;
          in.instances = floats({0, 6}, 1).requires_grad_(true);
          in.state = floats({1, 2, 3, 4}, 2).requires_grad_(true);
          in.weight = floats({2, 4, 6}, 3).requires_grad_(true);
          in.offsets = offsets;
          in.masks.key_bias = floats({0}, 4);
          return everything(pool(in, options), {in.instances, in.state, in.weight});
        },
        true);
  }
}

}  // namespace
}  // namespace hopfield
