#include "support/naive.h"
#include "support/retrieve_case.h"
#include <hopfield/ops/retrieve.h>

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
            "hopfield::retrieve(Tensor state, Tensor stored, Tensor? projection=None, *, Tensor? offsets=None, "
            "Tensor? association_mask=None, Tensor? padding_mask=None, Tensor? key_bias=None, Tensor? beta=None, "
            "int[1] update_steps_max=[0], float[1] update_steps_eps=[0.0001], int update_steps_cap=256, "
            "str stop_rule=\"per_query\", str gradient=\"unrolled\", int gradient_steps=1, str backend=\"automatic\", "
            "float dropout=0., Generator? generator=None, bool with_energy=False, bool with_scores=False) -> "
            "(Tensor output, Tensor final_state, Tensor logsumexp, Tensor steps, Tensor residual, Tensor converged, "
            "Tensor energy, Tensor scores)");
}

TEST(Dispatch, BoxedCallsGiveTheSame) {
  const auto state = randn({2, 2, 3, 4}, 1), stored = randn({2, 2, 5, 4}, 2);
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("hopfield::retrieve", "");
  torch::jit::Stack stack{state, stored};
  for (size_t i = 2; i < op.schema().arguments().size(); ++i)
    stack.push_back(op.schema().arguments()[i].default_value().value_or(c10::IValue()));
  op.callBoxed(stack);
  EXPECT_TRUE(bitwise_equal(stack.front().toTensor(), retrieve(state, stored).output));
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
    const RetrieveInput before{copy(c.input.state),   copy(c.input.stored),           copy(c.input.projection),
                               copy(c.input.offsets), copy(c.input.association_mask), copy(c.input.padding_mask),
                               copy(c.input.key_bias)};
    retrieve(c.input, RetrieveOptions().update_steps_max(3).with_energy().with_scores());
    for (const auto member :
         {&RetrieveInput::state, &RetrieveInput::stored, &RetrieveInput::projection, &RetrieveInput::association_mask,
          &RetrieveInput::padding_mask, &RetrieveInput::key_bias}) {
      if ((before.*member).defined()) {
        EXPECT_TRUE(bitwise_equal(before.*member, c.input.*member));
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
