#include "support/naive.h"
#include "support/retrieve_input.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/CPUGeneratorImpl.h>

#include <gtest/gtest.h>
#include <kernels/philox.h>

namespace hopfield {
namespace {

using namespace testing;

at::Generator generator(uint64_t seed = 3) { return at::detail::createCPUGenerator(seed); }

TEST(Philox, GivesThePublishedWords) {
  // These known answers come with Random123, the library of the authors. The inputs are zeros, ones and digits of pi.
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(kernels::philox4x32_10({{0, 0, 0, 0}, {0, 0}}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(kernels::philox4x32_10({{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(kernels::philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Dropout, IsReproducibleFromItsGenerator) {
  const auto c = make_case(Layout::dense, MaskKind::none, true, 1);
  const auto once = retrieve(c.input, RetrieveOptions().dropout(0.5).generator(generator())).output;
  const auto again = retrieve(c.input, RetrieveOptions().dropout(0.5).generator(generator())).output;
  const auto other = retrieve(c.input, RetrieveOptions().dropout(0.5).generator(generator(4))).output;
  EXPECT_TRUE(bitwise_equal(once, again));
  EXPECT_FALSE(bitwise_equal(once, other));
  auto shared = generator();
  const auto first = retrieve(c.input, RetrieveOptions().dropout(0.5).generator(shared)).output;
  const auto second = retrieve(c.input, RetrieveOptions().dropout(0.5).generator(shared)).output;
  EXPECT_FALSE(bitwise_equal(first, second)) << "every call draws a new mask";
}

TEST(Dropout, DropsTheFinalAssociationOnlyAndKeepsItsMean) {
  const auto state = randn({1, 1, 64, 4}, 1), stored = randn({1, 1, 4096, 4}, 2),
             ones = at::ones({1, 1, 4096, 1}, at::kDouble);
  for (const double p : {0.1, 0.5, 0.9}) {
    const auto options = RetrieveOptions().beta(0.0).fixed_steps(2);
    const auto r =
        retrieve(RetrieveInput{state, stored, ones}, RetrieveOptions(options).dropout(p).generator(generator()));
    const auto without = retrieve(RetrieveInput{state, stored, ones}, options);
    EXPECT_TRUE(bitwise_equal(r.state, without.state));
    EXPECT_TRUE(bitwise_equal(r.logsumexp, without.logsumexp));
    // With beta 0 every weight is 1/4096, so the output counts the patterns that dropout has kept.
    EXPECT_NEAR(r.output.mean().item<double>() * (1 - p), 1 - p, 0.01);
    EXPECT_GT(r.output.std().item<double>(), 0);
  }
  const auto all = retrieve(RetrieveInput{state, stored, ones}, RetrieveOptions().dropout(1.0));
  EXPECT_EQ(all.output.abs().sum().item<double>(), 0);
}

TEST(Dropout, PaddedAndRaggedBagsShareOneMask) {
  const auto c = make_case(Layout::ragged, MaskKind::none, true, 11, {4, 2, 2, 9, 4, 3});
  RetrieveInput padded{c.state, c.stored, c.projection, {c.bias.select(1, 0).select(1, 0).isneginf()}};
  const auto options = [] { return RetrieveOptions().fixed_steps(1).dropout(0.5).generator(generator()); };
  EXPECT_LT(max_difference(retrieve(c.input, options()).output, retrieve(padded, options()).output), 1e-13);
}

TEST(Dropout, DoesNotDependOnTheNumberOfThreads) {
  const auto state = randn({4, 4, 16, 8}, 1), stored = randn({4, 4, 600, 8}, 2);
  const auto threads = at::get_num_threads();
  std::vector<at::Tensor> outputs;
  for (const int count : {1, 2, 8}) {
    at::set_num_threads(count);
    outputs.push_back(retrieve(state, stored, RetrieveOptions().beta(0.0).dropout(0.5).generator(generator())).output);
  }
  at::set_num_threads(threads);
  EXPECT_LT(max_difference(outputs[0], outputs[1]), 1e-14);
  EXPECT_LT(max_difference(outputs[0], outputs[2]), 1e-14);
}

TEST(Dropout, MaskHoldsForHalfPrecisionAndDouble) {
  const auto state = randn({2, 2, 3, 4}, 1), stored = randn({2, 2, 50, 4}, 2);
  const auto run = [&](at::ScalarType dtype) {
    return retrieve(state.to(dtype), stored.to(dtype), RetrieveOptions().dropout(0.5).generator(generator()))
        .output.to(at::kDouble);
  };
  EXPECT_LT(max_difference(run(at::kFloat), run(at::kDouble)), 1e-5);
  EXPECT_LT(max_difference(run(at::kBFloat16), run(at::kDouble)), 0.1);
}

}  // namespace
}  // namespace hopfield
