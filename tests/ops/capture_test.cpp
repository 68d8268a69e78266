// These tests check what the ops refuse while a CUDA graph is being captured. Here the CPU pretends to capture;
// pool_cuda_test.cpp and retrieve_cuda_test.cpp capture on a GPU.

#include "ops/capture.h"

#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/ops/pool.h>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

namespace hopfield {
namespace {

using testing::bitwise_equal;
using testing::expect_error;
using testing::randn;

bool capturing = false;
const detail::RegisterCaptureStatus kCpuStatus(c10::DeviceType::CPU, [](c10::Device) { return capturing; });

class Capture : public ::testing::Test {
 protected:
  void SetUp() override { capturing = true; }
  void TearDown() override { capturing = false; }
};
using PoolCapture = Capture;

at::Tensor floats(at::IntArrayRef shape, uint64_t seed) { return randn(shape, seed).to(at::kFloat); }

PoolInput pool_input() { return {floats({2, 2, 3, 4}, 2), floats({2, 7, 6}, 1), floats({2, 4, 6}, 3)}; }
PoolInput ragged_pool_input() {
  auto in = pool_input();
  in.instances = floats({9, 6}, 1);
  in.offsets = at::tensor({0, 4, 9});
  return in;
}

TEST_F(PoolCapture, TakesFixedSteps) {
  for (const auto backend : {Backend::fused, Backend::composite}) {
    const auto options = RetrieveOptions().update_steps_max(3).backend(backend);
    const auto captured = pool(pool_input(), options).output;
    capturing = false;
    EXPECT_TRUE(bitwise_equal(captured, pool(pool_input(), options).output));
    capturing = true;
  }
  pool(ragged_pool_input(), RetrieveOptions().update_steps_max(3).backend(Backend::fused));
}

TEST_F(PoolCapture, RefusesWhatWaitsForTheDeviceOrIsDrawnOnce) {
  for (const auto backend : {Backend::fused, Backend::composite}) {
    const auto options = [&] { return RetrieveOptions().backend(backend); };
    expect_error({"until converged",
                  [&] { pool(pool_input(), options().until_converged()); },
                  {"CUDA graph", "until_converged", "set update_steps_max"}});
    expect_error({"a head until converged",
                  [&] {
                    pool(pool_input(), options().update_steps_max({2, kUntilConverged}));
                  },
                  {"CUDA graph", "until_converged"}});
    expect_error({"dropout", [&] { pool(pool_input(), options().dropout(0.1)); }, {"CUDA graph", "dropout", "0.1"}});
  }
  expect_error({"ragged composite",
                [] { pool(ragged_pool_input(), RetrieveOptions().backend(Backend::composite)); },
                {"CUDA graph", "dense", "padding_mask"}});
}

TEST_F(PoolCapture, RefusesWhatLiesElsewhere) {
  const auto on_meta = [](const at::Tensor& tensor) { return tensor.to(at::kMeta); };
  expect_error({"offsets",
                [&] {
                  auto in = ragged_pool_input();
                  in.offsets = on_meta(in.offsets);
                  pool(in);
                },
                {"CUDA graph", "offsets", "cpu", "meta"}});
}

TEST_F(PoolCapture, RefusesTheBackwardPassOfUntilConverged) {
  auto in = pool_input();
  in.instances.requires_grad_(true);
  capturing = false;
  const auto output = pool(in, RetrieveOptions().until_converged().backend(Backend::fused)).output;
  capturing = true;
  expect_error({"backward",
                [&] { torch::autograd::grad({output.sum()}, {in.instances}); },
                {"CUDA graph", "until_converged", "set update_steps_max"}});
}

TEST_F(Capture, HoldsForRetrieve) {
  const auto state = floats({2, 2, 3, 4}, 1), stored = floats({2, 2, 5, 4}, 2);
  retrieve(state, stored, RetrieveOptions().update_steps_max(3));
  expect_error({"until converged",
                [&] { retrieve(state, stored, RetrieveOptions().until_converged()); },
                {"CUDA graph", "until_converged"}});
  expect_error(
      {"dropout", [&] { retrieve(state, stored, RetrieveOptions().dropout(0.5)); }, {"CUDA graph", "dropout"}});
  const RetrieveInput ragged{state, floats({9, 2, 4}, 3), {}, {}, at::tensor({0, 4, 9})};
  expect_error({"ragged composite",
                [&] { retrieve(ragged, RetrieveOptions().backend(Backend::composite)); },
                {"CUDA graph", "dense", "padding_mask"}});
}

}  // namespace
}  // namespace hopfield
