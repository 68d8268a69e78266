// These tensors have more elements than 32 bits can count. The bag at their end must give the bits that it gives alone.

#include "support/cuda_test.h"
#include "support/naive.h"
#include <hopfield/ops/pool.h>

#include <torch/csrc/autograd/autograd.h>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::randn;

constexpr int64_t kWidth = 8, kBag = 3000;
constexpr int64_t kGiB = int64_t{1} << 30;

class PoolCudaLarge : public testing::CudaTest {
 protected:
  /// False, and the test is skipped, where the device has less.
  static bool has_memory(int64_t bytes) { return testing::free_device_memory() >= bytes; }
};

#define HOPFIELD_NEEDS_MEMORY(gibibytes) \
  if (!has_memory((gibibytes)*kGiB)) GTEST_SKIP() << "needs " << (gibibytes) << " GiB of GPU memory"

at::Tensor numbers(at::IntArrayRef shape, uint64_t seed) { return randn(shape, seed).to(at::kCUDA, at::kBFloat16); }

/// A call without its instances.
PoolInput queries(int64_t heads, int64_t count) {
  PoolInput in;
  in.state = numbers({1, heads, count, 4}, 1);
  in.weight = numbers({heads, 4, kWidth}, 2);
  return in;
}

/// Makes `total` instances, which are zero except for the last bag.
PoolInput with_bag_at_the_end(PoolInput in, int64_t total, const at::Tensor& bag) {
  in.instances = at::zeros({total, kWidth}, bag.options());
  in.instances.narrow(0, total - kBag, kBag).copy_(bag);
  in.offsets = at::tensor({int64_t{0}, total / 2, total - kBag, total}).to(at::kCUDA);
  return in;
}

PoolInput alone(PoolInput in, const at::Tensor& bag) {
  in.instances = bag;
  in.offsets = at::tensor({int64_t{0}, kBag}).to(at::kCUDA);
  return in;
}

RetrieveOptions updates(int64_t steps) { return RetrieveOptions().fixed_steps(steps).backend(Backend::fused); }

void expect_last_bag(const at::Tensor& found, const at::Tensor& expected) {
  EXPECT_TRUE(bitwise_equal(found.select(0, found.size(0) - 1).cpu(), expected[0].cpu()));
}

TEST_F(PoolCudaLarge, MoreThanTwoToThe31Elements) {
  HOPFIELD_NEEDS_MEMORY(20);
  const auto bag = numbers({kBag, kWidth}, 3);
  auto large = with_bag_at_the_end(queries(1, 1), (int64_t{1} << 28) + kBag, bag), small = alone(queries(1, 1), bag);
  for (auto* in : {&large, &small}) in->instances.requires_grad_(true);
  const auto found = pool(large, updates(1)), expected = pool(small, updates(1));
  expect_last_bag(found.output, expected.output);
  expect_last_bag(found.logsumexp, expected.logsumexp);
  const auto gradient = [](const PoolResult& r, const PoolInput& in) {
    return torch::autograd::grad({r.output}, {in.instances}, {at::ones_like(r.output)})[0];
  };
  const auto total = large.instances.size(0);
  EXPECT_TRUE(
      bitwise_equal(gradient(found, large).narrow(0, total - kBag, kBag).cpu(), gradient(expected, small).cpu()));
}

TEST_F(PoolCudaLarge, MoreThanTwoToThe31Scores) {
  HOPFIELD_NEEDS_MEMORY(24);
  const auto bag = numbers({kBag, kWidth}, 3);
  const auto total = (int64_t{1} << 28) + kBag;
  const auto found = pool(with_bag_at_the_end(queries(2, 4), total, bag), updates(0).with_scores());
  const auto expected = pool(alone(queries(2, 4), bag), updates(0).with_scores());
  EXPECT_TRUE(bitwise_equal(found.scores.narrow(0, total - kBag, kBag).cpu(), expected.scores.cpu()));
}

TEST_F(PoolCudaLarge, RowsFarApart) {
  HOPFIELD_NEEDS_MEMORY(8);
  const int64_t apart = int64_t{1} << 20;
  const auto bag = numbers({kBag, kWidth}, 3);
  const auto memory = at::empty({(kBag - 1) * apart + kWidth}, bag.options());
  const auto far = memory.as_strided({kBag, kWidth}, {apart, 1});
  far.copy_(bag);
  auto large = alone(queries(2, 3), far.detach()), small = alone(queries(2, 3), bag);
  for (auto* in : {&large, &small}) in->instances.requires_grad_(true);
  const auto found = pool(large, updates(2)), expected = pool(small, updates(2));
  expect_last_bag(found.output, expected.output);
  const auto gradient = [](const PoolResult& r, const PoolInput& in) {
    return torch::autograd::grad({r.output}, {in.instances}, {at::ones_like(r.output)})[0].cpu();
  };
  EXPECT_TRUE(bitwise_equal(gradient(found, large), gradient(expected, small)));
}

TEST_F(PoolCudaLarge, MoreThanTwoToThe31Instances) {
  HOPFIELD_NEEDS_MEMORY(48);
  const auto bag = numbers({kBag, kWidth}, 3);
  const auto found = pool(with_bag_at_the_end(queries(1, 1), (int64_t{1} << 31) + kBag, bag), updates(1));
  expect_last_bag(found.output, pool(alone(queries(1, 1), bag), updates(1)).output);
}

TEST_F(PoolCudaLarge, MoreBagsThanAGridIsHigh) {
  const int64_t bags = 200'003;
  const auto instances = numbers({bags * 2, kWidth}, 3);
  auto many = queries(2, 3);
  many.instances = instances.view({bags, 2, kWidth}).detach().requires_grad_(true);
  const auto r = pool(many, updates(1));
  const auto gradient = torch::autograd::grad({r.output}, {many.instances}, {at::ones_like(r.output)})[0];
  for (const int64_t bag : {int64_t{0}, int64_t{65535}, int64_t{65536}, bags - 1}) {
    auto one = many;
    one.instances = many.instances.detach().narrow(0, bag, 1).requires_grad_(true);
    const auto expected = pool(one, updates(1));
    EXPECT_TRUE(bitwise_equal(r.output[bag].cpu(), expected.output[0].cpu())) << bag;
    const auto own = torch::autograd::grad({expected.output}, {one.instances}, {at::ones_like(expected.output)})[0];
    EXPECT_TRUE(bitwise_equal(gradient[bag].cpu(), own[0].cpu())) << bag;
  }
}

}  // namespace
}  // namespace hopfield
