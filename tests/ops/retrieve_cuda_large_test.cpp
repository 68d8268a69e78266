// These patterns have more elements than 32 bits can count. Those at their end must give the bits that they give alone.

#include "support/cuda_test.h"
#include "support/naive.h"
#include <hopfield/ops/retrieve.h>

#include <torch/csrc/autograd/autograd.h>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::randn;

constexpr int64_t kWidth = 8, kBag = 300;
constexpr int64_t kGiB = int64_t{1} << 30;

/// Tests run with and without gradient, as far as the kernels have one.
class RetrieveCudaLarge : public testing::CudaTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    testing::CudaTest::SetUp();
    if (IsSkipped() || !GetParam()) return;
    RetrieveInput in;
    in.state = in.stored = at::zeros({1, 1, 1, kWidth}, at::device(at::kCUDA)).requires_grad_(true);
    if (const auto reason = why_not_fused(in)) GTEST_SKIP() << *reason;
  }
  /// False, and the test is skipped, where the device has less.
  static bool has_memory(int64_t bytes) { return testing::free_device_memory() >= bytes; }
};
INSTANTIATE_TEST_SUITE_P(Forward, RetrieveCudaLarge, ::testing::Values(false));
INSTANTIATE_TEST_SUITE_P(Backward, RetrieveCudaLarge, ::testing::Values(true));

#define HOPFIELD_NEEDS_MEMORY(gibibytes) \
  if (!has_memory((gibibytes)*kGiB)) GTEST_SKIP() << "needs " << (gibibytes) << " GiB of GPU memory"

at::Tensor numbers(at::IntArrayRef shape, uint64_t seed) { return randn(shape, seed).to(at::kCUDA, at::kBFloat16); }

RetrieveOptions updates(int64_t steps) { return RetrieveOptions().fixed_steps(steps).backend(Backend::fused); }

/// Of one batch element: outputs, and if wanted the gradients of its queries and of its patterns. `own` finds the
/// patterns' part.
std::vector<at::Tensor> of_element(RetrieveInput in, int64_t n, bool with_gradient,
                                   const std::function<at::Tensor(const at::Tensor&)>& own) {
  if (with_gradient) {
    in.state.requires_grad_(true);
    in.stored.requires_grad_(true);
  }
  const auto r = retrieve(in, updates(1));
  std::vector<at::Tensor> found{r.output[n], r.state[n], r.logsumexp[n]};
  if (with_gradient) {
    const auto gradients = torch::autograd::grad({r.output}, {in.state, in.stored}, {at::ones_like(r.output)});
    found.push_back(gradients[0][n]);
    found.push_back(own(gradients[1]));
  }
  for (auto& tensor : found) tensor = tensor.detach().cpu();
  return found;
}

void expect_same_bits(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(bitwise_equal(found[i].reshape(expected[i].sizes()), expected[i])) << "tensor " << i;
  }
}

at::Tensor all_of(const at::Tensor& gradient) { return gradient; }

/// The last bag of these ragged patterns begins beyond 2^31 elements.
TEST_P(RetrieveCudaLarge, MoreThanTwoToThe31PatternElements) {
  HOPFIELD_NEEDS_MEMORY(24);
  const int64_t total = (int64_t{1} << 28) + kBag;
  const auto bag = numbers({kBag, 1, kWidth}, 3);
  RetrieveInput large, alone;
  large.state = numbers({2, 1, 5, kWidth}, 1);
  large.stored = at::zeros({total, 1, kWidth}, bag.options());
  large.stored.narrow(0, total - kBag, kBag).copy_(bag);
  large.offsets = at::tensor({int64_t{0}, total - kBag, total}).to(at::kCUDA);
  alone.state = large.state.slice(0, 1).clone();
  alone.stored = bag;
  alone.offsets = at::tensor({int64_t{0}, kBag}).to(at::kCUDA);
  const auto last = [&](const at::Tensor& gradient) { return gradient.narrow(0, total - kBag, kBag); };
  expect_same_bits(of_element(large, 1, GetParam(), last), of_element(alone, 0, GetParam(), all_of));
}

/// There are so many queries that states and outputs have more elements, too, and results in float32 four times the
/// bytes.
TEST_P(RetrieveCudaLarge, MoreThanTwoToThe31QueryElements) {
  HOPFIELD_NEEDS_MEMORY(GetParam() ? 60 : 40);
  const int64_t batch = 4097, queries = int64_t{1} << 16;  // times 8 features
  RetrieveInput large, alone;
  large.state = at::zeros({batch, 1, queries, kWidth}, at::device(at::kCUDA).dtype(at::kBFloat16));
  large.stored = numbers({1, 1, 3, kWidth}, 2);
  alone.state = numbers({1, 1, queries, kWidth}, 1);
  large.state[batch - 1].copy_(alone.state[0]);
  alone.stored = large.stored.clone();
  auto found = of_element(large, batch - 1, GetParam(), all_of);
  auto expected = of_element(alone, 0, GetParam(), all_of);
  if (GetParam()) {  // of shared patterns: everybody's
    found.pop_back();
    expected.pop_back();
  }
  expect_same_bits(found, expected);
}

/// Masks and scores have an entry for each query and key.
TEST_P(RetrieveCudaLarge, MoreThanTwoToThe31Scores) {
  if (GetParam()) GTEST_SKIP() << "scores of the kernels have no gradient";
  HOPFIELD_NEEDS_MEMORY(28);
  const int64_t batch = 3, queries = int64_t{1} << 15, keys = int64_t{1} << 15;  // 3 GiB of a mask, 12 of scores
  RetrieveInput large, alone;
  large.state = numbers({batch, 1, queries, kWidth}, 1);
  large.stored = numbers({batch, 1, keys, kWidth}, 2);
  large.masks.association_mask = at::zeros({batch, 1, queries, keys}, at::device(at::kCUDA).dtype(at::kBool));
  large.masks.association_mask[batch - 1][0].slice(1, 0, keys, 3).fill_(true);
  alone.state = large.state.slice(0, batch - 1);
  alone.stored = large.stored.slice(0, batch - 1);
  alone.masks.association_mask = large.masks.association_mask.slice(0, batch - 1).clone();
  const at::NoGradGuard no_grad;
  const auto found = retrieve(large, updates(0).with_scores());
  const auto expected = retrieve(alone, updates(0).with_scores());
  EXPECT_TRUE(at::equal(found.scores[batch - 1], expected.scores[0]));
  expect_same_bits({found.output[batch - 1].cpu(), found.logsumexp[batch - 1].cpu()},
                   {expected.output[0].cpu(), expected.logsumexp[0].cpu()});
}

TEST_P(RetrieveCudaLarge, RowsFarApart) {
  HOPFIELD_NEEDS_MEMORY(8);
  const int64_t apart = int64_t{1} << 23;  // 300 rows: 2.5 * 2^30 elements
  const auto bag = numbers({1, 1, kBag, kWidth}, 3);
  const auto memory = at::empty({(kBag - 1) * apart + kWidth}, bag.options());
  RetrieveInput large, alone;
  alone.state = numbers({1, 1, 70, kWidth}, 1);
  alone.stored = bag.clone();
  large.state = alone.state.clone();
  large.stored = memory.as_strided({1, 1, kBag, kWidth}, {kWidth, kWidth, apart, 1}).copy_(bag);
  expect_same_bits(of_element(large, 0, GetParam(), all_of), of_element(alone, 0, GetParam(), all_of));
}

TEST_P(RetrieveCudaLarge, MoreBatchElementsThanAGridIsHigh) {
  const int64_t batch = 200'003;
  RetrieveInput many;
  many.state = numbers({batch, 2, 3, kWidth}, 1);
  many.stored = numbers({batch, 2, 4, kWidth}, 2);
  for (const int64_t n : {int64_t{0}, int64_t{65535}, int64_t{65536}, batch - 1}) {
    RetrieveInput one;
    one.state = many.state.detach().narrow(0, n, 1).clone();
    one.stored = many.stored.detach().narrow(0, n, 1).clone();
    const auto own = [&](const at::Tensor& gradient) { return gradient[n]; };
    expect_same_bits(of_element(many, n, GetParam(), own), of_element(one, 0, GetParam(), all_of));
  }
}

}  // namespace
}  // namespace hopfield
