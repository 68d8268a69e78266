#include "support/member.h"
#include "support/naive.h"
#include "support/retrieve_input.h"
#include <hopfield/ops/pool.h>

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>

#include <gtest/gtest.h>

#include <set>
#include <thread>

namespace hopfield {
namespace {

using namespace testing;

TEST(Dispatch, SchemaIsFrozen) {
  register_ops();
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("hopfield::retrieve", "");
  EXPECT_EQ(c10::str(op.schema()),
            "hopfield::retrieve(Tensor state, Tensor stored, Tensor? projection=None, *, "
            "Tensor? padding_mask=None, Tensor? association_mask=None, Tensor? key_bias=None, bool is_causal=False, "
            "Tensor? offsets=None, Tensor? state_offsets=None, Tensor? beta=None, "
            "int[1] update_steps_max=[0], float[1] update_steps_eps=[0.0001], int update_steps_cap=256, "
            "str stop_rule=\"per_query\", str gradient=\"unrolled\", int gradient_steps=1, str separation=\"softmax\", "
            "float separation_alpha=1.5, str backend=\"automatic\", float dropout=0., Generator? generator=None, bool "
            "with_energy=False, bool with_scores=False, "
            "Tensor? seed=None) -> "
            "(Tensor output, Tensor state, Tensor logsumexp, Tensor steps, Tensor residual, Tensor converged, "
            "Tensor energy, Tensor scores)");
}

TEST(Dispatch, PoolsSchemaIsFrozen) {
  register_ops();
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("hopfield::pool", "");
  EXPECT_EQ(c10::str(op.schema()),
            "hopfield::pool(Tensor instances, Tensor state, Tensor weight, Tensor? bias=None, *, "
            "Tensor? padding_mask=None, Tensor? association_mask=None, Tensor? key_bias=None, bool is_causal=False, "
            "Tensor? offsets=None, float? normalize_eps=None, Tensor? beta=None, int[1] update_steps_max=[0], "
            "float[1] update_steps_eps=[0.0001], int update_steps_cap=256, str stop_rule=\"per_query\", "
            "str gradient=\"unrolled\", int gradient_steps=1, str separation=\"softmax\", float separation_alpha=1.5, "
            "str backend=\"automatic\", float dropout=0., "
            "Generator? generator=None, bool with_scores=False, Tensor? seed=None) -> "
            "(Tensor output, Tensor state, Tensor logsumexp, Tensor steps, Tensor residual, Tensor converged, "
            "Tensor mass, Tensor scores)");
}

/// All results of a call with these first arguments and defaults for the others.
torch::jit::Stack call_boxed(const char* name, torch::jit::Stack stack) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  const auto& arguments = op.schema().arguments();
  for (size_t i = stack.size(); i < arguments.size(); ++i)
    stack.push_back(arguments[i].default_value().value_or(c10::IValue()));
  op.callBoxed(stack);
  return stack;
}

TEST(Dispatch, BoxedCallsGiveTheSame) {
  const auto state = randn({2, 2, 3, 4}, 1), stored = randn({2, 2, 5, 4}, 2);
  const auto retrieved = call_boxed("hopfield::retrieve", {state, stored});
  EXPECT_TRUE(bitwise_equal(retrieved.front().toTensor(), retrieve(state, stored).output));
  const auto instances = randn({2, 7, 6}, 3), weight = randn({2, 4, 6}, 4);
  const auto pooled = call_boxed("hopfield::pool", {instances, state, weight});
  const auto expected = pool({state, instances, weight});
  EXPECT_TRUE(bitwise_equal(pooled.front().toTensor(), expected.output));
  EXPECT_TRUE(bitwise_equal(pooled[6].toTensor(), expected.mass));
}

/// No argument may be lost or change places on its way through the schema. Here the result depends on all of them.
TEST(Dispatch, PoolTakesAllItsArguments) {
  const auto bags = at::tensor({int64_t{0}, int64_t{4}, int64_t{9}});
  const auto key_bias = randn({9}, 5);
  const PoolInput input{
      randn({1, 2, 3, 4}, 2), randn({9, 6}, 1), randn({2, 4, 6}, 3), randn({2, 4}, 4), {{}, {}, key_bias}, bags, 1e-3};
  const auto options = [] {
    return RetrieveOptions().beta({0.5, 2.0}).update_steps_max({1, 5}).update_steps_eps({0.0, 0.3}).with_scores();
  };
  const auto r = pool(input, options());
  const auto y = at::layer_norm(input.instances, {6}, {}, {}, 1e-3);
  const auto keys = at::einsum("si,hki->shk", {y, input.weight}) + input.bias;
  const auto expected =
      retrieve({input.state.expand({2, -1, -1, -1}), keys, y.unsqueeze(1), {{}, {}, key_bias}, bags}, options());
  EXPECT_LT(max_difference(r.output, expected.output), 1e-12);
  EXPECT_LT(max_difference(r.scores, expected.scores), 1e-12);
  EXPECT_LT(max_difference(r.residual, expected.residual), 1e-12);
  EXPECT_TRUE(at::equal(r.steps, expected.steps));
  EXPECT_TRUE(at::equal(r.converged, expected.converged));
  EXPECT_FALSE(pool(input).scores.defined());
}

TEST(Dispatch, AutocastIsKnownToBothOpsOnBothDevices) {
  register_ops();
  for (const auto* name : {"hopfield::retrieve", "hopfield::pool"}) {
    const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
    for (const auto key : {c10::DispatchKey::AutocastCPU, c10::DispatchKey::AutocastCUDA}) {
      EXPECT_TRUE(op.hasKernelForDispatchKey(key)) << name << " " << toString(key);
    }
  }
}

TEST(Dispatch, AutocastLowersWhatPoolComputesWith) {
  const auto low = [](const at::Tensor& x) { return x.to(at::kBFloat16); };
  const auto y = randn({2, 7, 6}, 1).to(at::kFloat), state = randn({1, 2, 3, 4}, 2).to(at::kFloat),
             bias = randn({2, 4}, 4).to(at::kFloat);
  const auto weight = randn({2, 4, 6}, 3).to(at::kFloat).requires_grad_(true);
  const auto expected = pool({low(state), low(y), low(weight), low(bias)}).output;
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const auto r = pool({state, y, weight, bias});
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_TRUE(bitwise_equal(r.output, expected));
  EXPECT_EQ(r.logsumexp.scalar_type(), at::kFloat);
  r.output.sum().backward();
  EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
}

TEST(Dispatch, AutocastLowersPatternsAndKeepsParameterGradients) {
  const auto state = randn({2, 2, 3, 8}, 1).to(at::kFloat),
             stored = randn({2, 2, 5, 8}, 2).to(at::kFloat).requires_grad_(true);
  const auto low =
      retrieve(state.to(at::kBFloat16), stored.to(at::kBFloat16), RetrieveOptions().update_steps_max(2)).output;
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const auto r = retrieve(state, stored, RetrieveOptions().update_steps_max(2));
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(r.output.scalar_type(), at::kBFloat16);
  EXPECT_EQ(r.logsumexp.scalar_type(), at::kFloat);
  EXPECT_TRUE(bitwise_equal(r.output, low));
  r.output.sum().backward();
  EXPECT_EQ(stored.grad().scalar_type(), at::kFloat);
}

TEST(Dispatch, LeavesInputsAlone) {
  for (const auto layout : kLayouts) {
    const auto c = make_case(layout, MaskKind::everything, true, 3);
    const auto copy = [](const at::Tensor& x) { return x.defined() ? x.clone() : x; };
    const RetrieveInput before{
        copy(c.input.state),
        copy(c.input.stored),
        copy(c.input.projection),
        {copy(c.input.masks.padding_mask), copy(c.input.masks.association_mask), copy(c.input.masks.key_bias)},
        copy(c.input.offsets)};
    retrieve(c.input, RetrieveOptions().update_steps_max(3).with_energy().with_scores());
    for (const auto& member :
         Members<RetrieveInput>{&RetrieveInput::state, &RetrieveInput::stored, &RetrieveInput::projection,
                                &Masks::association_mask, &Masks::padding_mask, &Masks::key_bias}) {
      if (member(before).defined()) {
        EXPECT_TRUE(bitwise_equal(member(before), member(c.input)));
      }
    }
  }
}

TEST(Dispatch, ServesManyThreadsAtOnce) {
  const auto c = make_case(Layout::dense, MaskKind::everything, true, 3);
  const auto expected = retrieve(c.input, RetrieveOptions().update_steps_max(3)).output;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int repeat = 0; repeat < 50; ++repeat) {
        if (!bitwise_equal(retrieve(c.input, RetrieveOptions().update_steps_max(3)).output, expected)) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Dispatch, ParallelLoopsReallyRunInParallel) {
  const auto threads = at::get_num_threads();
  at::set_num_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> seen;
  at::parallel_for(0, 64, 1, [&](int64_t, int64_t) {
    const std::lock_guard<std::mutex> lock(mutex);
    seen.insert(std::this_thread::get_id());
  });
  at::set_num_threads(threads);
  EXPECT_EQ(seen.size(), 2u);
}

}  // namespace
}  // namespace hopfield
