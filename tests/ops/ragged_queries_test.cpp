// These tests compare calls with a different number of queries for each bag (state_offsets) with one call for each bag.

#include "support/close.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hopfield {
namespace {

using testing::expect_close;
using ::testing::HasSubstr;
using testing::max_difference;
using testing::randn;

constexpr int64_t kHeads = 2, kDepth = 4, kWidth = 3;
const std::vector<int64_t> kQueries{0, 3, 3, 8, 9}, kKeys{0, 5, 7, 7, 13};  // bag 1 has no query, bag 2 no key

at::Tensor offsets_of(const std::vector<int64_t>& offsets) { return at::tensor(offsets, at::kLong); }

RetrieveInput sample(at::ScalarType type) {
  RetrieveInput input;
  input.state = randn({kQueries.back(), kHeads, kDepth}, 1).to(type).requires_grad_(true);
  input.stored = randn({kKeys.back(), kHeads, kDepth}, 2).to(type).requires_grad_(true);
  input.projection = randn({kKeys.back(), kHeads, kWidth}, 3).to(type).requires_grad_(true);
  input.masks.key_bias = randn({kKeys.back()}, 4).to(type);
  input.offsets = offsets_of(kKeys);
  input.state_offsets = offsets_of(kQueries);
  return input;
}

/// Bag n as a dense call of its own.
RetrieveInput bag_of(const RetrieveInput& input, size_t n) {
  const auto rows = [](const at::Tensor& tensor, const std::vector<int64_t>& offsets, size_t i) {
    return tensor.slice(0, offsets[i], offsets[i + 1]).transpose(0, 1).unsqueeze(0);
  };
  RetrieveInput bag{rows(input.state, kQueries, n), rows(input.stored, kKeys, n), rows(input.projection, kKeys, n)};
  bag.masks.key_bias = input.masks.key_bias.slice(0, kKeys[n], kKeys[n + 1]).unsqueeze(0);
  return bag;
}

const std::vector<at::Tensor RetrieveResult::*>& members() {
  static const std::vector<at::Tensor RetrieveResult::*> all{
      &RetrieveResult::output,   &RetrieveResult::state,     &RetrieveResult::logsumexp, &RetrieveResult::steps,
      &RetrieveResult::residual, &RetrieveResult::converged, &RetrieveResult::energy};
  return all;
}

/// One call for each bag, put together as ragged queries have it.
RetrieveResult bag_by_bag(const RetrieveInput& input, const RetrieveOptions& options) {
  std::vector<RetrieveResult> parts;
  for (size_t n = 0; n + 1 < kQueries.size(); ++n) parts.push_back(retrieve(bag_of(input, n), options));
  RetrieveResult all;
  for (const auto member : members()) {
    std::vector<at::Tensor> pieces;
    for (const auto& part : parts) {
      if ((part.*member).defined()) pieces.push_back((part.*member)[0].transpose(0, 1));  // [L, H, ..]
    }
    if (!pieces.empty()) all.*member = at::cat(pieces);
  }
  return all;
}

std::vector<at::Tensor> gradients(const RetrieveResult& r, const RetrieveInput& input) {
  const auto finite = [](const at::Tensor& tensor) { return tensor.masked_fill(at::isneginf(tensor), 0.0); };
  const auto loss = (r.output.to(at::kDouble) * randn(r.output.sizes(), 11)).sum() +
                    (r.state.to(at::kDouble) * randn(r.state.sizes(), 12)).sum() +
                    (finite(r.logsumexp).to(at::kDouble) * randn(r.logsumexp.sizes(), 13)).sum();
  return torch::autograd::grad({loss}, {input.state, input.stored, input.projection});
}

TEST(RaggedQueries, EqualOneCallForEachBag) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const auto& options :
         {RetrieveOptions(), RetrieveOptions().fixed_steps(2).beta({0.5, 1.5}),
          RetrieveOptions().until_converged().update_steps_eps(1e-3), RetrieveOptions().fixed_steps(2).with_energy(),
          RetrieveOptions().fixed_steps(3).gradient(Gradient::last(1))}) {
      auto input = sample(type);
      const auto found = retrieve(input, options);
      EXPECT_EQ(found.output.sizes(), at::IntArrayRef({9, kHeads, kWidth}));
      EXPECT_EQ(found.steps.sizes(), at::IntArrayRef({9, kHeads}));
      const auto of_ragged = gradients(found, input);
      auto reference = sample(at::kDouble);
      if (type == at::kFloat) reference = input;
      const auto expected = bag_by_bag(reference, options);
      for (const auto member : members()) expect_close(found.*member, expected.*member, "result");
      const auto of_bags = gradients(expected, reference);
      for (size_t i = 0; i < of_bags.size(); ++i) expect_close(of_ragged[i], of_bags[i], c10::str("gradient ", i));
    }
  }
}

TEST(RaggedQueries, FusedKernelsServeThemOnTheCpu) {
  auto input = sample(at::kFloat);
  EXPECT_EQ(why_not_fused(input, RetrieveOptions().fixed_steps(2)), std::nullopt);
  const auto per_head = RetrieveOptions().fixed_steps(2).stop_rule(StopRule::per_head);
  EXPECT_THAT(why_not_fused(input, per_head).value_or(""), HasSubstr("per_head"));
}

/// The rule looks at all queries of a head. Padding must not count as one, which would move for longer here.
TEST(RaggedQueries, PaddingDoesNotCountForARuleOfHeads) {
  auto input = sample(at::kDouble);
  const auto options =
      RetrieveOptions().update_steps_max(20).update_steps_eps(1e-3).stop_rule(StopRule::per_head).beta(0.9);
  const auto found = retrieve(input, options);
  // The same, padded by hand, with an association mask that hides padding from padding.
  auto dense = RetrieveInput{};
  const auto padded = [](const at::Tensor& rows, const std::vector<int64_t>& offsets, int64_t most) {
    auto all = at::zeros({static_cast<int64_t>(offsets.size()) - 1, rows.size(1), most, rows.size(2)}, rows.options());
    for (size_t n = 0; n + 1 < offsets.size(); ++n) {
      all[n].narrow(1, 0, offsets[n + 1] - offsets[n]).copy_(rows.slice(0, offsets[n], offsets[n + 1]).transpose(0, 1));
    }
    return all;
  };
  const at::NoGradGuard no_grad;
  dense.state = padded(input.state, kQueries, 5);
  dense.stored = padded(input.stored, kKeys, 6);
  dense.projection = padded(input.projection, kKeys, 6);
  dense.masks.association_mask = at::ones({4, 1, 5, 6}, at::kBool);
  dense.masks.key_bias = at::zeros({4, 6}, at::kDouble);
  for (size_t n = 0; n < 4; ++n) {
    const auto queries = kQueries[n + 1] - kQueries[n], keys = kKeys[n + 1] - kKeys[n];
    dense.masks.association_mask[n][0].narrow(0, 0, queries).narrow(1, 0, keys).fill_(false);
    dense.masks.key_bias[n].narrow(0, 0, keys).copy_(input.masks.key_bias.slice(0, kKeys[n], kKeys[n + 1]));
  }
  const auto expected = retrieve(dense, options);
  for (size_t n = 0; n < 4; ++n) {
    const auto rows = found.output.slice(0, kQueries[n], kQueries[n + 1]).transpose(0, 1);
    EXPECT_LT(max_difference(rows, expected.output[n].narrow(1, 0, rows.size(1))), 1e-12) << n;
  }
}

TEST(RaggedQueries, TakeTwoDimensionsAndNoBags) {
  const auto state = randn({3, kDepth}, 1), stored = randn({5, kDepth}, 2);
  const RetrieveInput input{state, stored, {}, {}, offsets_of({0, 2, 5}), offsets_of({0, 1, 3})};
  const auto r = retrieve(input, RetrieveOptions().fixed_steps(1));
  EXPECT_LT(
      max_difference(r.output.slice(0, 0, 1),
                     retrieve(state.slice(0, 0, 1), stored.slice(0, 0, 2), RetrieveOptions().fixed_steps(1)).output),
      1e-14);
  const RetrieveInput none{randn({0, kDepth}, 1), randn({0, kDepth}, 2), {}, {}, offsets_of({0}), offsets_of({0})};
  EXPECT_EQ(retrieve(none).output.sizes(), at::IntArrayRef({0, kDepth}));
}

TEST(RaggedQueries, ErrorsNameWhatIsWrong) {
  const auto call = [](const std::function<void(RetrieveInput&, RetrieveOptions&)>& change) {
    return std::function<void()>([=] {
      auto input = sample(at::kDouble);
      auto options = RetrieveOptions();
      change(input, options);
      retrieve(input, options);
    });
  };
  using I = RetrieveInput;
  using O = RetrieveOptions;
  for (const auto& wrong : std::vector<testing::WrongCall>{
           {"dense stored patterns", call([](I&i, O&) { i.offsets = at::Tensor(); }), {"offsets", "state_offsets"}},
           {"lengths",
            call([](I&i, O&) {
              i.state_offsets = at::tensor({3, 0, 5, 1});
            }),
            {"offsets", "batch size"}},
           {"end",
            call([](I&i, O&) {
              i.state_offsets = at::tensor({0, 3, 3, 8, 10});
            }),
            {"from 0 to 9", "0 to 10"}},
           {"dense queries", call([](I&i, O&) { i.state = i.state.unsqueeze(0); }), {"state", "[total_L, H, d]"}},
           {"scores", call([](I&, O&o) { o.with_scores(); }), {"scores", "ragged queries"}},
           {"lengths of bags",
            call(
                [](I&i, O&) {
                  i.state_offsets = at::Tensor();
                  i.state = randn({4, kHeads, 2, kDepth}, 1);
                  i.offsets = at::tensor({5, 2, 0, 6});
                }),
            {"offsets", "cumsum"}}}) {
    testing::expect_error(wrong);
  }
}

}  // namespace
}  // namespace hopfield
