// The memory of training depends on the updates that are made, not on those that are allowed. ops_test runs these tests
// with the kernels of the device at hand, ops_on_host_test with the GPU's kernels on the host.

#include "support/allocations.h"
#include "support/decisions.h"
#include "support/device.h"
#include "support/naive.h"
#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

namespace hopfield {
namespace {

using testing::max_difference;
using testing::peak_bytes;
using testing::randn;
using testing::runs_the_gpus_kernels;
using testing::test_device;

at::Tensor leaf(at::IntArrayRef shape, uint64_t seed, at::ScalarType type) {
  return randn(shape, seed).to(test_device(), type).requires_grad_(true);
}

struct Trained {
  std::vector<at::Tensor> gradients;
  int64_t most_steps = 0;
};

Trained train_retrieve(const RetrieveOptions& options, at::ScalarType type) {
  const auto state = leaf({2, 2, 30, 8}, 1, type), stored = leaf({2, 2, 40, 8}, 2, type);
  const auto r = retrieve(state, stored, options);
  return {
      torch::autograd::grad({(r.output * randn(r.output.sizes(), 3).to(r.output.options())).sum()}, {state, stored}),
      r.steps.max().item<int64_t>()};
}

Trained train_pool(const RetrieveOptions& options, at::ScalarType type) {
  const auto instances = leaf({2, 40, 16}, 1, type), state = leaf({1, 2, 3, 8}, 2, type),
             weight = leaf({2, 8, 16}, 3, type);
  const auto r = pool({state, instances, weight / 8}, options);
  return {torch::autograd::grad({(r.output * randn(r.output.sizes(), 4).to(r.output.options())).sum()},
                                {instances, state, weight}),
          r.steps.max().item<int64_t>()};
}

using Train = Trained (*)(const RetrieveOptions&, at::ScalarType);

TEST(Memory, OfTrainingGoesByTheUpdatesThatAreMade) {
  if (test_device().is_cuda()) GTEST_SKIP() << "memory of the host alone is counted";
  for (const Train train : {train_retrieve, train_pool}) {
    for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
      for (const auto type : {at::kFloat, at::kDouble}) {
        if (type == at::kDouble && runs_the_gpus_kernels()) continue;  // plain operations, in the other program
        if (rule == StopRule::per_head && runs_the_gpus_kernels() && train == train_pool) continue;  // likewise
        SCOPED_TRACE(c10::str(train == train_pool ? "pool " : "retrieve ", to_string(rule), " ", type));
        const auto options = [&](int64_t most) {
          return RetrieveOptions().beta(0.2).update_steps_max(most).update_steps_eps(1e-3).stop_rule(rule);
        };
        Trained few, many;
        const auto bytes_of_few = peak_bytes([&] { few = train(options(20), type); });
        const auto bytes_of_many = peak_bytes([&] { many = train(options(20'000), type); });
        ASSERT_LT(few.most_steps, 20);
        EXPECT_EQ(many.most_steps, few.most_steps);
        EXPECT_LE(bytes_of_many, 3 * bytes_of_few / 2);
        for (size_t i = 0; i < few.gradients.size(); ++i) {
          EXPECT_LE(max_difference(many.gradients[i], few.gradients[i]), 1e-6) << i;
        }
      }
    }
  }
}

TEST(Memory, ManyUpdatesHaveTheGradientsOfPlainOperations) {
  for (const Train train : {train_retrieve, train_pool}) {
    const auto options = RetrieveOptions().beta(0.2).update_steps_max(500).update_steps_eps(1e-3);
    const auto expected = train(RetrieveOptions(options).backend(Backend::composite), at::kDouble);
    const auto found = train(RetrieveOptions(options).backend(Backend::fused), at::kFloat);
    EXPECT_TRUE(testing::decides_clearly(options, [&](RetrieveOptions other) {
      const at::AutoGradMode with_gradient(true);
      return at::tensor(train(other.backend(Backend::composite), at::kDouble).most_steps);
    }));
    EXPECT_EQ(found.most_steps, expected.most_steps);
    for (size_t i = 0; i < expected.gradients.size(); ++i) {
      EXPECT_LE(max_difference(found.gradients[i].to(at::kDouble), expected.gradients[i]), 1e-4) << i;
    }
  }
}

}  // namespace
}  // namespace hopfield
