// Retrieval by warpgroup products against the formula in float64.

#include "retrieve_backward_case.h"
#include "retrieve_cases.h"
#include "retrieve_forward_case.h"
#include "warpgroup_case.h"

#include <kernels/cuda/retrieve_warpgroup.h>

namespace hopfield::kernels::cuda {
namespace {

/// The heads of a pattern are neighbours in memory.
Retrieval sample() {
  Retrieval r;
  r.batch = r.heads = 1;
  r.queries = 130;
  r.depth = 64;
  r.beta = 0.125;
  r.type = ElementType::bfloat16;
  r.keys_first = true;
  return r;
}

void by_warpgroups(RetrievalOnDevice& device) {
  device.out.scores = nullptr;
  auto error = retrieve_warpgroup_reason_against(device.call, device.out);
  if (error.empty()) error = retrieve_warpgroup_forward(device.call, device.out, device.workspace, nullptr);
  if (!error.empty()) throw std::runtime_error(error);
}

/// By the kernel that retrieve_forward() chooses. The one for Hopper GPUs writes no scores.
void by_choice(RetrievalOnDevice& device) {
  device.out.scores = nullptr;
  device.forward();
}

void check(const Retrieval& r) { check_forward(r, by_warpgroups); }

using CudaRetrieveWarpgroup = CudaWarpgroup;

TEST_F(CudaRetrieveWarpgroup, SelfAssociation) {
  auto r = sample();
  check(r);
  r.queries = 5;
  r.keys = 128;  // whole tiles
  r.depth = 128;
  r.beta = 0.08;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, MoreTilesThanTheRingHasStages) {
  auto r = sample();
  r.queries = 3;
  r.keys = 600;
  r.depth = 72;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, ValuesAreReadOut) {
  auto r = sample();
  r.queries = 9;
  r.keys = 300;
  r.steps = 1;
  r.width = 24;
  check(r);
  r.depth = 16;
  r.width = 128;
  r.keys = 200;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, OneAssociation) {
  auto r = sample();
  r.queries = 70;
  r.steps = 0;
  r.keys = 1;
  check(r);
  r.keys = 129;
  r.width = 72;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, PatternsSharedByBatchAndHeads) {
  for (const bool batch : {false, true}) {
    for (const bool heads : {false, true}) {
      auto r = sample();
      r.batch = 2;
      r.heads = 3;
      r.queries = 7;
      r.depth = 32;
      r.width = 40;
      r.steps = 1;
      r.shared_batch = batch;
      r.shared_heads = heads;
      check(r);
    }
  }
}

TEST_F(CudaRetrieveWarpgroup, HeadsHaveTheirOwnStepsAndBeta) {
  auto r = sample();
  r.heads = 4;
  r.queries = 6;
  r.keys = 140;
  r.steps = 3;
  r.steps_of_heads = {0, 1, 2, 3};
  r.beta_of_heads = {0.1, -0.2, 0.0, 0.15};
  check(r);
  r.shared_heads = true;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, LargeScoresStayFinite) {
  auto r = sample();
  r.queries = 4;
  r.keys = 260;
  r.beta = 30.0;
  check(r);
}

TEST_F(CudaRetrieveWarpgroup, ABetaThatIsNanIsNotHidden) {
  auto r = sample();
  r.queries = 2;
  r.beta = std::nan("");
  const auto patterns = draw(r);
  RetrievalOnDevice device(r, patterns);
  by_warpgroups(device);
  const auto output = device.download(device.out.output, r.depth);
  for (const auto value : output) EXPECT_TRUE(std::isnan(value));
  for (const auto value : device.download(device.out.logsumexp, device.rows())) EXPECT_TRUE(std::isnan(value));
}

TEST_F(CudaRetrieveWarpgroup, RowsWithNothingToAttendToStayWhereTheyAre) {
  auto r = sample();
  r.queries = 2;
  r.depth = 8;
  r.steps = 3;
  r.heads = 2;
  r.beta_of_heads = {0.1, -0.1};
  auto patterns = draw(r);
  // All scores are minus infinity: the heads of a pattern are neighbours, and beta of the second is negative.
  const auto row = static_cast<size_t>(padded_row(r.depth));
  for (size_t i = 0; i < patterns.stored.size(); ++i) {
    if (i % row < 8) patterns.stored[i] = i / row % 2 == 0 ? -kInfinity : kInfinity;
  }
  for (auto& value : patterns.state) value = std::abs(value);
  RetrievalOnDevice device(r, patterns);
  by_warpgroups(device);
  const auto found = results(r, device);
  for (const auto value : found.output) EXPECT_EQ(value, 0.0);
  for (const auto value : found.logsumexp) EXPECT_EQ(value, -kInfinity);
  for (const auto value : found.residual) EXPECT_EQ(value, 0.0);
  for (const auto value : found.exponential_sums) EXPECT_EQ(value, 0.0);
  for (const auto steps : found.steps) EXPECT_EQ(steps, 0);
  const auto states = in_order(patterns.state, patterns.call.state, {r.batch, r.heads, r.queries, r.depth});
  EXPECT_EQ(found.state, states);
  for (size_t i = 0; i < found.saved_states.size(); ++i) {
    EXPECT_EQ(found.saved_states[i], states[i % states.size()]);
  }
}

TEST_F(CudaRetrieveWarpgroup, BackwardGoesOnFromWhatIsSaved) {
  auto r = sample();
  r.queries = 70;
  check_backward(r, by_warpgroups);
  r.heads = 3;
  r.queries = 6;
  r.keys = 140;
  r.width = 24;
  r.steps = 3;
  r.steps_of_heads = {3, 0, 2};
  r.beta_of_heads = {0.1, 0.15, -0.1};
  check_backward(r, by_warpgroups);
}

TEST_F(CudaRetrieveWarpgroup, GivesAQueryTheSameBitsInAnyBatch) {
  auto r = sample();
  r.batch = 3;
  r.queries = 50;
  r.keys = 150;
  r.depth = 16;
  r.shared_batch = true;
  const auto patterns = draw(r);
  RetrievalOnDevice together(r, patterns);
  by_warpgroups(together);
  auto alone = r;
  alone.batch = 1;
  auto part = patterns;
  part.call.batch = 1;
  const auto begin = patterns.state.begin() + 2 * patterns.call.state.batch;
  part.state.assign(begin, begin + patterns.call.state.batch);
  RetrievalOnDevice apart(alone, part);
  by_warpgroups(apart);
  const auto found = results(alone, apart).output, of_all = results(r, together).output;
  EXPECT_TRUE(std::equal(found.begin(), found.end(), of_all.begin() + 2 * r.queries * r.depth));
}

TEST_F(CudaRetrieveWarpgroup, WhatItDoesNotServeHasAReason) {
  const auto reason = [](auto change) {
    RetrieveCall call;
    Outputs out;
    call.type = ElementType::bfloat16;
    call.keys = call.depth = call.width = call.state.row = call.stored.row = 64;
    change(call, out);
    return retrieve_warpgroup_reason_against(call, out);
  };
  float number = 0;
  EXPECT_EQ(reason([](auto&, auto&) {}), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.type = ElementType::float16; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.depth = 136; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.depth = 12; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.depth = call.width = 0; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.width = 20; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.exact_states = true; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.per_head = true, call.most_steps = 1; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.most_shared_bytes = 99 << 10; }), "");
  EXPECT_NE(reason([&](auto& call, auto&) { call.key_bias = &number; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.mask.kind = ScoreMask::Kind::boolean; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.dropout = 0.1f; }), "");
  EXPECT_NE(reason([&](auto&, auto& out) { out.scores = &number; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.keys = 0; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.stored.row = 12; }), "");
  EXPECT_NE(reason([](auto& call, auto&) { call.state.row = 12; }), "");
  EXPECT_NE(reason([](auto&, auto& out) { out.output.row = 12; }), "");
  EXPECT_NE(reason([](auto&, auto& out) { out.state.head = 12; }), "");
}

// The switch. These tests are also run with HOPFIELD_CUDA_WARPGROUP=1.

using CudaRetrieveWarpgroupSwitch = CudaWarpgroup;

TEST_F(CudaRetrieveWarpgroupSwitch, RunsWhereTheEnvironmentAsksForIt) {
  auto r = sample();
  r.keys = 300;
  const auto patterns = draw(r);
  const auto sums = [&](auto forward) {
    RetrievalOnDevice device(r, patterns);
    forward(device);
    return results(r, device).exponential_sums;
  };
  const auto of_warpgroups = sums(by_warpgroups);
  const auto of_others = sums([](const RetrievalOnDevice& device) { device.forward(); });
  ASSERT_NE(of_warpgroups, of_others) << "the scores that are asked for do not tell the kernels apart";
  const char* value = std::getenv("HOPFIELD_CUDA_WARPGROUP");
  const bool asked = value == nullptr ? kWarpgroupByDefault : std::string(value) == "1";
  EXPECT_EQ(sums(by_choice), asked ? of_warpgroups : of_others);
}

TEST_F(CudaRetrieveWarpgroupSwitch, LeavesOtherCallsToOtherKernels) {
  Retrieval all;
  all.type = ElementType::bfloat16;
  all.keys_first = true;
  int served = 0, left = 0;
  for_retrieve_cases(all, [&](Retrieval r) {
    r.width = (r.width + 7) / 8 * 8;
    check_forward(r, [&](auto& device) {
      by_choice(device);
      ++(retrieve_warpgroup_reason_against(device.call, device.out).empty() ? served : left);
    });
  });
  EXPECT_GE(served, 9);
  EXPECT_GE(left, 9);
}

TEST_F(CudaRetrieveWarpgroupSwitch, BackwardGoesOnFromEitherKernel) {
  auto r = sample();
  r.queries = 20;
  r.keys = 140;
  r.width = 24;
  check_backward(r, by_choice);
}

TEST_F(CudaRetrieveWarpgroupSwitch, IsZeroOrOne) {
  EXPECT_EQ(read_warpgroup_switch(nullptr).on, kWarpgroupByDefault);
  EXPECT_TRUE(read_warpgroup_switch("1").on);
  EXPECT_FALSE(read_warpgroup_switch("0").on);
  for (const auto* right : {static_cast<const char*>(nullptr), "0", "1"}) {
    EXPECT_EQ(read_warpgroup_switch(right).error, "");
  }
  for (const auto* wrong : {"", "on", "01", "1 ", "-1", "true"}) {
    EXPECT_EQ(
        read_warpgroup_switch(wrong).error,
        "expected the environment variable HOPFIELD_CUDA_WARPGROUP to be 0 or 1, got \"" + std::string(wrong) + '"');
  }
}

}  // namespace
}  // namespace hopfield::kernels::cuda
