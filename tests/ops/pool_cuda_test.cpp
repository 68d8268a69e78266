// These tests check what a program with a GPU relies on besides numbers: devices, streams, graphs and autocast work,
// and no call waits for the device.

#include "support/cuda_graph.h"
#include "support/cuda_test.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/ops/pool.h>

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/cuda/Sleep.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/csrc/autograd/autograd.h>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::capture;
using testing::expect_error;
using testing::randn;

using PoolCuda = testing::CudaTest;

at::Tensor on(at::Device device, at::IntArrayRef shape, uint64_t seed, at::ScalarType type = at::kFloat) {
  return randn(shape, seed).to(device, type);
}

PoolInput dense_input(at::Device device = at::kCUDA, at::ScalarType type = at::kFloat) {
  PoolInput in;
  in.instances = on(device, {3, 1500, 40}, 1, type);
  in.state = on(device, {1, 2, 3, 8}, 2, type);
  in.weight = on(device, {2, 8, 40}, 3, type);
  in.bias = on(device, {2, 8}, 4, type);
  in.masks.padding_mask = on(device, {3, 1500}, 5) > 1.0;
  in.masks.key_bias = on(device, {1, 1500}, 6);
  in.normalize_eps = 1e-5;
  return in;
}

PoolInput ragged_input(at::Device offsets_on = at::kCUDA, at::ScalarType type = at::kFloat) {
  auto in = dense_input(at::kCUDA, type);
  in.instances = on(at::kCUDA, {4000, 40}, 1, type);
  in.offsets = at::tensor({int64_t{0}, int64_t{7}, int64_t{7}, int64_t{2500}, int64_t{4000}}).to(offsets_on);
  in.masks.padding_mask = in.masks.key_bias = at::Tensor();
  return in;
}

RetrieveOptions updates(int64_t steps, Backend backend = Backend::fused) {
  return RetrieveOptions().fixed_steps(steps).backend(backend);
}

std::vector<at::Tensor*> leaves_of(PoolInput& in) { return {&in.instances, &in.state, &in.weight, &in.bias}; }

void follow(PoolInput& in) {
  for (auto* leaf : leaves_of(in)) leaf->requires_grad_(true);
}

/// Outputs and gradients, for incoming gradients that the outputs decide.
std::vector<at::Tensor> everything(PoolInput& in, const RetrieveOptions& options) {
  const auto r = pool(in, options);
  std::vector<at::Tensor> all{r.output, r.state, r.mass}, leaves, incoming;
  for (const auto& output : all) incoming.push_back(output.detach().cos());
  for (const auto* leaf : leaves_of(in)) leaves.push_back(*leaf);
  for (const auto& gradient : torch::autograd::grad(all, leaves, incoming)) all.push_back(gradient);
  for (const auto& more : {r.logsumexp, r.steps, r.residual, r.converged}) all.push_back(more);
  for (auto& tensor : all) tensor = tensor.detach();
  return all;
}

void expect_same_bits(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(bitwise_equal(found[i].cpu(), expected[i].cpu())) << "tensor " << i;
  }
}

// Devices.

TEST_F(PoolCuda, RunsWhereItsTensorsLie) {
  if (c10::cuda::device_count() < 2) GTEST_SKIP() << "there is one CUDA device alone";
  const at::Device first(at::kCUDA, 0), second(at::kCUDA, 1);
  const c10::cuda::CUDAGuard guard(first);
  auto here = dense_input(first), there = dense_input(second);
  follow(here);
  follow(there);
  const auto found = everything(there, updates(2));
  for (const auto& tensor : found) EXPECT_EQ(tensor.device(), second);
  EXPECT_EQ(c10::cuda::current_device(), 0);
  expect_same_bits(found, everything(here, updates(2)));
}

// Streams.

/// The instances are written late, on the same stream, and memory that the call has freed is used by others at once.
TEST_F(PoolCuda, WorksOnTheCurrentStream) {
  auto in = ragged_input();
  follow(in);
  const auto expected = everything(in, updates(2));
  const auto values = in.instances.detach().clone();
  at::cuda::device_synchronize();
  const auto stream = c10::cuda::getStreamFromPool();
  const c10::cuda::CUDAStreamGuard guard(stream);
  for (int i = 0; i < 20; ++i) {
    {
      const at::NoGradGuard no_grad;
      in.instances.fill_(std::numeric_limits<double>::quiet_NaN());
      at::cuda::sleep(10'000'000);  // some milliseconds
      in.instances.copy_(values);
    }
    const auto found = everything(in, updates(2));
    for (int64_t megabytes = 1; megabytes <= 16; megabytes *= 2) {
      at::full({megabytes << 18}, std::numeric_limits<double>::quiet_NaN(), values.options());
    }
    expect_same_bits(found, expected);
  }
}

/// In this debug mode LibTorch throws where one of its functions waits for the device.
TEST_F(PoolCuda, NeverWaitsForTheDevice) {
  struct NoWaiting {
    NoWaiting() { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR); }
    ~NoWaiting() { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_DISABLED); }
  };
  for (auto in : {dense_input(), ragged_input(at::kCPU)}) {
    follow(in);
    const auto without_gradient = [&](const RetrieveOptions& options) {
      const at::NoGradGuard no_grad;
      pool(in, options);
    };
    const NoWaiting no_waiting;
    for (auto options : {updates(2), updates(2).beta({0.3, 0.4}), updates(2).dropout(0.1),
                         updates(2).gradient(Gradient::last(1)), RetrieveOptions().update_steps_max(3)}) {
      everything(in, options.backend(Backend::fused));
      without_gradient(options.with_scores());
    }
    without_gradient(RetrieveOptions().until_converged().backend(Backend::fused));
    if (!in.offsets.defined()) everything(in, updates(2, Backend::composite).beta({0.3, 0.4}));
  }
}

// Graphs.

void fill_anew(PoolInput& in, uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (auto* leaf : leaves_of(in)) leaf->copy_(randn(leaf->sizes(), seed++));
  if (in.masks.padding_mask.defined()) in.masks.padding_mask.copy_(randn(in.masks.padding_mask.sizes(), seed) > 0.0);
  if (in.offsets.defined())
    in.offsets.copy_(at::tensor({int64_t{0}, int64_t{1000}, int64_t{1025}, int64_t{1025}, int64_t{4000}}));
}

/// A replayed graph must give what the call gives with the same numbers.
void expect_replays(PoolInput in, const RetrieveOptions& options) {
  follow(in);
  std::vector<at::Tensor> results;
  const auto graph = capture([&] { results = everything(in, options); });
  for (const uint64_t seed : {10, 20}) {
    fill_anew(in, seed);
    graph->replay();
    at::cuda::device_synchronize();
    expect_same_bits(results, everything(in, options));
  }
}

TEST_F(PoolCuda, IsCapturedForFixedSteps) {
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const auto& in : {dense_input(at::kCUDA, type), ragged_input(at::kCUDA, type)}) {
      for (const int64_t steps : {0, 1, 3}) {
        SCOPED_TRACE(c10::str(type, in.offsets.defined() ? " ragged" : " dense", " T ", steps));
        expect_replays(in, updates(steps));
        expect_replays(in, updates(steps).update_steps_eps(0.05).beta({0.3, 0.4}));
        expect_replays(in, updates(steps).gradient(Gradient::last(1)));
      }
    }
  }
}

TEST_F(PoolCuda, CompositeIsCapturedForFixedSteps) {
  for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
    expect_replays(dense_input(), updates(2, Backend::composite).stop_rule(rule).update_steps_eps(0.05));
  }
  expect_replays(dense_input(), updates(2, Backend::composite).beta({0.3, 0.4}));
}

TEST_F(PoolCuda, ScoresAreCaptured) {
  for (auto in : {dense_input(), ragged_input()}) {
    at::Tensor scores;
    const auto graph = capture([&] { scores = pool(in, updates(1).with_scores()).scores; });
    fill_anew(in, 10);
    graph->replay();
    at::cuda::device_synchronize();
    EXPECT_TRUE(bitwise_equal(scores.cpu(), pool(in, updates(1).with_scores()).scores.cpu()));
  }
}

/// A call that is refused must not spoil the capture.
TEST_F(PoolCuda, CaptureRefusesWhatWaitsOrIsDrawnOnce) {
  const auto in = dense_input(), ragged = ragged_input(), ragged_by_cpu = ragged_input(at::kCPU);
  auto leaf = dense_input();
  leaf.instances.requires_grad_(true);
  const auto output = pool(leaf, RetrieveOptions().until_converged().backend(Backend::fused)).output;
  const auto incoming = at::ones_like(output);
  const auto beta = at::full({}, 0.5, at::kDouble).requires_grad_(true);
  const auto counter = at::zeros({}, at::kCUDA);
  at::cuda::device_synchronize();
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
  at::cuda::CUDAGraph graph;
  graph.capture_begin();
  for (const auto backend : {Backend::fused, Backend::composite}) {
    const auto options = [&] { return RetrieveOptions().backend(backend); };
    expect_error({"until converged",
                  [&] { pool(in, options().until_converged()); },
                  {"CUDA graph", "until_converged", "set update_steps_max"}});
    expect_error({"dropout", [&] { pool(in, options().dropout(0.1)); }, {"CUDA graph", "dropout"}});
    expect_error({"beta of the CPU", [&] { pool(in, options().beta(beta)); }, {"CUDA graph", "beta", "cpu"}});
    expect_error({"offsets of the CPU", [&] { pool(ragged_by_cpu, options()); }, {"CUDA graph", "offsets", "cpu"}});
  }
  expect_error({"ragged composite",
                [&] { pool(ragged, updates(1, Backend::composite)); },
                {"CUDA graph", "dense", "padding_mask"}});
  expect_error({"backward",
                [&] { torch::autograd::grad({output}, {leaf.instances}, {incoming}); },
                {"CUDA graph", "until_converged"}});
  counter.add_(1);
  graph.capture_end();
  graph.replay();
  graph.replay();
  at::cuda::device_synchronize();
  EXPECT_EQ(counter.item<float>(), 2.0f);
}

// Autocast.

TEST_F(PoolCuda, AutocastLowersWhatItComputesWith) {
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    auto in = ragged_input(), low = in;
    for (auto* tensor : leaves_of(low)) *tensor = tensor->to(type);
    follow(in);
    at::autocast::set_autocast_enabled(at::kCUDA, true);
    at::autocast::set_autocast_dtype(at::kCUDA, type);
    const auto found = pool(in, updates(2)).output;
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCUDA, false);
    EXPECT_TRUE(bitwise_equal(found.detach().cpu(), pool(low, updates(2)).output.cpu()));
    found.sum().backward();
    for (const auto* leaf : leaves_of(in)) EXPECT_EQ(leaf->grad().scalar_type(), at::kFloat);
  }
}

}  // namespace
}  // namespace hopfield
