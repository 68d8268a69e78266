// These tests check what a program with a GPU relies on besides numbers: devices, streams, graphs and autocast work
// with retrieve(), and no call waits for the device.

#include "support/cuda_graph.h"
#include "support/cuda_test.h"
#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/ops/retrieve.h>

#include <ATen/autocast_mode.h>
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

at::Tensor on(at::Device device, at::IntArrayRef shape, uint64_t seed, at::ScalarType type = at::kFloat) {
  return randn(shape, seed).to(device, type);
}

enum class Form { dense, shared, ragged, masked };
constexpr Form kForms[] = {Form::dense, Form::shared, Form::ragged, Form::masked};

const char* name_of(Form form) {
  constexpr const char* kNames[] = {"dense", "shared", "ragged", "masked"};
  return kNames[static_cast<size_t>(form)];
}

at::Tensor offsets(at::Device device) {
  return at::tensor({int64_t{0}, int64_t{7}, int64_t{7}, int64_t{400}}).to(device);
}

RetrieveInput make_input(Form form, at::ScalarType type = at::kFloat, at::Device device = at::kCUDA) {
  const int64_t sets = form == Form::shared ? 1 : 3;
  RetrieveInput in;
  in.state = on(device, {3, 2, 150, 40}, 1, type);
  in.stored = on(device, {sets, 2, 200, 40}, 2, type);
  in.projection = on(device, {sets, 2, 200, 24}, 3, type);
  if (form == Form::ragged) {
    in.stored = on(device, {400, 2, 40}, 2, type);
    in.projection = on(device, {400, 2, 24}, 3, type);
    in.offsets = offsets(device);
  }
  if (form == Form::masked) {
    in.masks.association_mask = on(device, {3, 2, 150, 200}, 4) > 1.0;
    in.masks.padding_mask = on(device, {3, 200}, 5) > 1.0;
    in.masks.key_bias = on(device, {1, 200}, 6);
  }
  return in;
}

RetrieveOptions updates(int64_t steps, Backend backend = Backend::fused) {
  return RetrieveOptions().fixed_steps(steps).beta(0.3).backend(backend);
}

std::vector<at::Tensor*> leaves_of(RetrieveInput& in) { return {&in.state, &in.stored, &in.projection}; }

void follow(RetrieveInput& in, bool gradient = true) {
  for (auto* leaf : leaves_of(in)) leaf->requires_grad_(gradient);
}

/// Outputs and, of inputs that ask for them, gradients for incoming ones that the outputs decide.
std::vector<at::Tensor> everything(RetrieveInput& in, const RetrieveOptions& options) {
  const auto r = retrieve(in, options);
  std::vector<at::Tensor> all{r.output, r.state, r.logsumexp}, leaves, incoming;
  if (in.state.requires_grad()) {
    for (const auto& output : all) incoming.push_back(output.detach().cos());
    for (const auto* leaf : leaves_of(in)) leaves.push_back(*leaf);
    for (const auto& gradient : torch::autograd::grad(all, leaves, incoming)) all.push_back(gradient);
  }
  for (const auto& more : {r.steps, r.residual, r.converged}) all.push_back(more);
  for (auto& tensor : all) tensor = tensor.detach();
  return all;
}

void expect_same_bits(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(bitwise_equal(found[i].cpu(), expected[i].cpu())) << "tensor " << i;
  }
}

/// Tests run with and without gradient, as far as the kernels have one.
class RetrieveCuda : public testing::CudaTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    testing::CudaTest::SetUp();
    if (IsSkipped() || !GetParam()) return;
    auto in = input(Form::dense);
    if (const auto reason = why_not_fused(in, updates(2))) GTEST_SKIP() << *reason;
  }
  static RetrieveInput input(Form form, at::ScalarType type = at::kFloat, at::Device device = at::kCUDA) {
    auto in = make_input(form, type, device);
    follow(in, GetParam());
    return in;
  }
};
INSTANTIATE_TEST_SUITE_P(Forward, RetrieveCuda, ::testing::Values(false));
INSTANTIATE_TEST_SUITE_P(Backward, RetrieveCuda, ::testing::Values(true));

// Devices.

TEST_P(RetrieveCuda, RunsWhereItsTensorsLie) {
  if (c10::cuda::device_count() < 2) GTEST_SKIP() << "there is one CUDA device alone";
  const at::Device first(at::kCUDA, 0), second(at::kCUDA, 1);
  const c10::cuda::CUDAGuard guard(first);
  auto here = input(Form::masked, at::kFloat, first), there = input(Form::masked, at::kFloat, second);
  const auto found = everything(there, updates(2));
  for (const auto& tensor : found) EXPECT_EQ(tensor.device(), second);
  EXPECT_EQ(c10::cuda::current_device(), 0);
  expect_same_bits(found, everything(here, updates(2)));
}

// Streams.

/// The patterns are written late, on the same stream, and memory that the call has freed is used by others at once.
TEST_P(RetrieveCuda, WorksOnTheCurrentStream) {
  for (const auto form : kForms) {
    SCOPED_TRACE(name_of(form));
    auto in = input(form);
    const auto expected = everything(in, updates(2));
    const auto values = in.stored.detach().clone();
    at::cuda::device_synchronize();
    const auto stream = c10::cuda::getStreamFromPool();
    const c10::cuda::CUDAStreamGuard guard(stream);
    for (int i = 0; i < 5; ++i) {
      {
        const at::NoGradGuard no_grad;
        in.stored.fill_(std::numeric_limits<double>::quiet_NaN());
        at::cuda::sleep(10'000'000);  // some milliseconds
        in.stored.copy_(values);
      }
      const auto found = everything(in, updates(2));
      for (int64_t megabytes = 1; megabytes <= 16; megabytes *= 2) {
        at::full({megabytes << 18}, std::numeric_limits<double>::quiet_NaN(), values.options());
      }
      expect_same_bits(found, expected);
    }
    at::cuda::device_synchronize();  // before the next patterns are made on another stream
  }
}

/// In this debug mode LibTorch throws where one of its functions waits for the device.
TEST_P(RetrieveCuda, NeverWaitsForTheDevice) {
  struct NoWaiting {
    NoWaiting() { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR); }
    ~NoWaiting() { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_DISABLED); }
  };
  for (const auto form : kForms) {
    SCOPED_TRACE(name_of(form));
    auto in = input(form);
    if (form == Form::ragged) in.offsets = offsets(at::kCPU);  // those of a device are read back to be checked
    const NoWaiting no_waiting;
    for (auto options : {updates(2), updates(0), updates(2).beta({0.3, 0.4}), updates(2).dropout(0.1),
                         updates(2).gradient(Gradient::last(1)), updates(3).update_steps_eps(1e-3),
                         RetrieveOptions().until_converged().backend(Backend::fused)}) {
      everything(in, options);
    }
    if (GetParam()) continue;
    retrieve(in, updates(1).with_scores());
    if (form != Form::ragged) retrieve(in, updates(1).with_energy());
  }
}

TEST_P(RetrieveCuda, AttentionNeverWaitsForTheDevice) {
  const at::NoGradGuard no_grad;
  auto in = input(Form::shared, at::kBFloat16);
  in.projection = in.stored;
  const auto options = updates(0, Backend::automatic);
  everything(in, options);
  c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR);
  EXPECT_NO_THROW(retrieve(in, options));
  c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_DISABLED);
}

// Graphs.

void fill_anew(RetrieveInput& in, uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (auto* leaf : leaves_of(in)) leaf->copy_(randn(leaf->sizes(), seed++));
  if (in.masks.padding_mask.defined()) in.masks.padding_mask.copy_(randn(in.masks.padding_mask.sizes(), seed) > 0.0);
  if (in.masks.association_mask.defined())
    in.masks.association_mask.copy_(randn(in.masks.association_mask.sizes(), seed + 1) > 0.0);
  if (in.offsets.defined()) in.offsets.copy_(at::tensor({int64_t{0}, int64_t{100}, int64_t{125}, int64_t{400}}));
}

/// A replayed graph must give what the call gives with the same numbers.
void expect_replays(RetrieveInput in, const RetrieveOptions& options) {
  std::vector<at::Tensor> results;
  const auto graph = capture([&] { results = everything(in, options); });
  for (const uint64_t seed : {10, 20}) {
    fill_anew(in, seed);
    graph->replay();
    at::cuda::device_synchronize();
    expect_same_bits(results, everything(in, options));
  }
}

TEST_P(RetrieveCuda, IsCapturedForFixedSteps) {
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const auto form : kForms) {
      for (const int64_t steps : {0, 1, 3}) {
        SCOPED_TRACE(c10::str(type, " ", name_of(form), " T ", steps));
        expect_replays(input(form, type), updates(steps));
        expect_replays(input(form, type), updates(steps).update_steps_eps(0.05).beta({0.3, 0.4}));
        if (GetParam()) expect_replays(input(form, type), updates(steps).gradient(Gradient::last(1)));
      }
    }
  }
}

TEST_P(RetrieveCuda, CompositeIsCapturedForFixedSteps) {
  for (const auto form : {Form::dense, Form::shared, Form::masked}) {
    SCOPED_TRACE(name_of(form));
    for (const auto rule : {StopRule::per_query, StopRule::per_head}) {
      expect_replays(input(form), updates(2, Backend::composite).stop_rule(rule).update_steps_eps(0.05));
    }
  }
}

TEST_P(RetrieveCuda, AttentionIsCaptured) {
  const at::NoGradGuard no_grad;
  auto in = make_input(Form::shared, at::kBFloat16);
  in.projection = in.projection.new_zeros({1, 2, 200, 40});
  expect_replays(in, updates(0, Backend::automatic));
}

TEST_P(RetrieveCuda, ScoresAreCaptured) {
  if (GetParam()) GTEST_SKIP() << "scores of the kernels have no gradient";
  for (const auto form : kForms) {
    auto in = input(form);
    at::Tensor scores;
    const auto graph = capture([&] { scores = retrieve(in, updates(1).with_scores()).scores; });
    fill_anew(in, 10);
    graph->replay();
    at::cuda::device_synchronize();
    EXPECT_TRUE(bitwise_equal(scores.cpu(), retrieve(in, updates(1).with_scores()).scores.cpu())) << name_of(form);
  }
}

/// A call that is refused must not spoil the capture.
TEST_P(RetrieveCuda, CaptureRefusesWhatWaitsOrIsDrawnOnce) {
  const auto in = input(Form::dense), ragged = input(Form::ragged);
  auto ragged_by_cpu = ragged;
  ragged_by_cpu.offsets = offsets(at::kCPU);
  const auto beta = at::full({}, 0.5, at::kDouble).requires_grad_(true);
  const auto counter = at::zeros({}, at::kCUDA);
  at::cuda::device_synchronize();
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
  at::cuda::CUDAGraph graph;
  graph.capture_begin();
  for (const auto backend : {Backend::fused, Backend::composite}) {
    const auto options = [&] { return RetrieveOptions().backend(backend); };
    expect_error({"until converged",
                  [&] { retrieve(in, options().until_converged()); },
                  {"CUDA graph", "until_converged", "set update_steps_max"}});
    expect_error({"dropout", [&] { retrieve(in, options().dropout(0.1)); }, {"CUDA graph", "dropout"}});
    expect_error({"beta of the CPU", [&] { retrieve(in, options().beta(beta)); }, {"CUDA graph", "beta", "cpu"}});
    expect_error({"offsets of the CPU", [&] { retrieve(ragged_by_cpu, options()); }, {"CUDA graph", "offsets", "cpu"}});
  }
  expect_error({"ragged composite",
                [&] { retrieve(ragged, updates(1, Backend::composite)); },
                {"CUDA graph", "dense", "padding_mask"}});
  counter.add_(1);
  graph.capture_end();
  graph.replay();
  graph.replay();
  at::cuda::device_synchronize();
  EXPECT_EQ(counter.item<float>(), 2.0f);
}

// Autocast.

TEST_P(RetrieveCuda, AutocastLowersWhatItComputesWith) {
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    auto in = input(Form::ragged), low = in;
    for (auto* tensor : leaves_of(low)) *tensor = tensor->detach().to(type);
    at::autocast::set_autocast_enabled(at::kCUDA, true);
    at::autocast::set_autocast_dtype(at::kCUDA, type);
    const auto found = retrieve(in, updates(2)).output;
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCUDA, false);
    EXPECT_TRUE(bitwise_equal(found.detach().cpu(), retrieve(low, updates(2)).output.cpu()));
    if (!GetParam()) continue;
    found.sum().backward();
    for (const auto* leaf : leaves_of(in)) EXPECT_EQ(leaf->grad().scalar_type(), at::kFloat);
  }
}

}  // namespace
}  // namespace hopfield
