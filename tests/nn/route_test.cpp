// Which calls of the layers run hopfield::pool on the stored patterns as they come, and which project them for
// hopfield::retrieve.

#include "nn/called_ops.h"
#include "ops/device_kernels.h"
#include "support/naive.h"
#include <hopfield/hopfield.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace hopfield::nn {
namespace {

using testing::called_ops;
using testing::max_difference;
using testing::randn;

constexpr int64_t kBatch = 3, kKeys = 40, kSize = 32;

/// Of 4 heads of 8. Without updates up to 4 queries are few, or up to 10 that the batch shares. With three updates it
/// is 1 query, or up to 2.
HopfieldOptions some_options() { return HopfieldOptions(kSize).num_heads(4); }

at::Tensor floats(at::IntArrayRef shape, uint64_t seed = 1) { return randn(shape, seed).to(at::kFloat); }
at::Tensor queries(int64_t count) { return floats({kBatch, count, kSize}, 2); }
at::Tensor patterns() { return floats({kBatch, kKeys, kSize}); }
at::Tensor some_offsets() { return at::tensor({0, 40, 40, 120}, at::kLong); }

/// Whether a call runs hopfield::pool. It runs one of the two ops.
bool pools(const std::function<void()>& call) {
  const auto ops = called_ops(call);
  EXPECT_NE(ops.count("hopfield::pool"), ops.count("hopfield::retrieve"));
  return ops.count("hopfield::pool") > 0;
}

bool pools(const HopfieldOptions& options, const AssociationInput& input, const Masks& masks = {},
           const AssociationRequest& request = {}) {
  Hopfield layer(options);
  return pools([&] { layer->associate(input, masks, request); });
}

TEST(Route, FewQueriesArePooled) {
  const auto x = patterns();
  EXPECT_TRUE(pools(some_options(), {queries(1), x}));
  EXPECT_TRUE(pools(some_options(), {queries(1), x, x}));
  EXPECT_TRUE(pools(some_options(), {queries(1).slice(0, 0, 1), x})) << "queries that the batch shares";
  EXPECT_TRUE(pools(some_options(), {queries(1)[0], x[0]})) << "without a batch";
  EXPECT_TRUE(pools(some_options().batch_first(false), {queries(2).transpose(0, 1), x.transpose(0, 1)}));
  for (const int64_t steps : {0, 3}) {
    const auto options = some_options().fixed_steps(steps);
    const int64_t most = steps == 0 ? 4 : 1, most_shared = steps == 0 ? 10 : 2;
    EXPECT_TRUE(pools(options, {queries(most), x}));
    EXPECT_FALSE(pools(options, {queries(most + 1), x}));
    EXPECT_TRUE(pools(options, {queries(most_shared).slice(0, 0, 1), x}));
    EXPECT_FALSE(pools(options, {queries(most_shared + 1).slice(0, 0, 1), x}));
  }
  Hopfield layer(some_options());
  EXPECT_TRUE(pools([&] { layer->get_association_matrix({queries(1), x}); }));
  Hopfield ragged(some_options());
  EXPECT_TRUE(pools([&] { ragged->associate_bags({queries(1), x.flatten(0, 1)}, {}, some_offsets()); }));
  EXPECT_TRUE(pools([&] { ragged->associate_bags({queries(1).slice(0, 0, 1), x.flatten(0, 1)}, {}, some_offsets()); }));
}

TEST(Route, DependsOnNeitherLengthsNorMasks) {
  const auto padding = at::zeros({kBatch, kKeys}, at::kBool);
  const auto bias = floats({kBatch, kKeys}, 4);
  for (const int64_t count : {4, 5}) {
    const bool expected = count == 4;
    const auto call = [&](const at::Tensor& stored, const Masks& masks) {
      return pools(some_options(), {queries(count), stored}, masks);
    };
    for (const int64_t keys : {1, 5, 200}) EXPECT_EQ(call(floats({kBatch, keys, kSize}), {}), expected) << keys;
    EXPECT_EQ(call(patterns(), {padding}), expected);
    EXPECT_EQ(call(patterns(), {{}, at::zeros({count, kKeys}, at::kBool)}), expected);
    EXPECT_EQ(call(patterns(), {{}, {}, bias}), expected);
  }
}

TEST(Route, OtherCallsAreProjected) {
  const auto x = patterns(), one = queries(1);
  EXPECT_FALSE(pools(some_options(), {one, x, x.clone()})) << "values of their own";
  EXPECT_FALSE(pools(some_options(), {one, x}, {}, AssociationRequest().with_energy()));
  EXPECT_FALSE(pools(some_options(), {one, x.slice(0, 0, 1)})) << "stored patterns that the batch shares";
  EXPECT_FALSE(pools(some_options().backend(Backend::composite), {one, x}));
  EXPECT_FALSE(pools(some_options().until_converged(), {one, x}));
  EXPECT_FALSE(pools(some_options().update_steps_max(1).stop_rule(StopRule::per_head), {one, x}));
  EXPECT_FALSE(pools(some_options().concat_bias_pattern(true), {one, x}));
  EXPECT_FALSE(pools(some_options().normalize_hopfield_space(true), {one, x}));
  EXPECT_FALSE(pools(some_options().normalize_stored_pattern_eps(0.1), {one, x}));
  Hopfield in_double(some_options());
  in_double->to(at::kDouble);
  EXPECT_FALSE(pools([&] { in_double->associate({one.to(at::kDouble), x.to(at::kDouble)}); }));
  Hopfield ragged(some_options());
  const auto state_offsets = at::tensor({0, 1, 2, 3}, at::kLong);
  EXPECT_FALSE(pools([&] {
    ragged->associate_bags({one.squeeze(1), x.flatten(0, 1)}, state_offsets, some_offsets());
  }));
}

/// As on the GPU, whose kernels for pool() take no association mask. What retrieve()'s kernels serve stays theirs.
TEST(Route, CallsThatTheKernelsForPoolRefuseAreProjected) {
  const auto kernels = *hopfield::detail::device_kernels(c10::DeviceType::CPU);
  auto refusing = kernels;
  refusing.reason_against = [](const hopfield::detail::OpCall& call) -> std::optional<std::string> {
    if (!call.is_pool()) return std::nullopt;
    if (call.input.masks.association_mask.defined()) return "no association mask";
    if (call.weight.size(1) > 8 || call.weight.size(2) > kSize) return "too wide";
    return std::nullopt;
  };
  const hopfield::detail::RegisterDeviceKernels registration(c10::DeviceType::CPU, refusing);
  const auto call = [&](const HopfieldOptions& options, const Masks& masks) {
    return pools(HopfieldOptions(options).backend(Backend::fused), {queries(1), patterns()}, masks);
  };
  EXPECT_TRUE(call(some_options(), {}));
  EXPECT_TRUE(call(some_options(), {at::zeros({kBatch, kKeys}, at::kBool)}));
  EXPECT_FALSE(call(some_options(), {{}, at::zeros({1, kKeys}, at::kBool)}));
  EXPECT_FALSE(call(some_options().hidden_size(9), {}));
  const hopfield::detail::RegisterDeviceKernels again(c10::DeviceType::CPU, kernels);
}

/// There are as many queries as stored patterns: absorbing them costs more, however few they are.
TEST(Route, PatternsThatAttendToThemselvesAreProjected) {
  Hopfield layer(some_options());
  const auto x = queries(2);
  EXPECT_FALSE(pools([&] { layer->forward(x); }));
  EXPECT_FALSE(pools([&] { layer->forward(x, at::zeros({kBatch, 2}, at::kBool)); }));
  EXPECT_FALSE(pools([&] { layer->forward(x, {}, at::zeros({2, 2}, at::kBool)); }));
  EXPECT_FALSE(pools([&] { layer->forward(x[0]); }));
  EXPECT_FALSE(pools([&] { layer->associate({x, x, x}); }));
}

TEST(Route, TheOtherLayersAskTheSameQuestion) {
  HopfieldPooling pool(HopfieldPoolingOptions(kSize).num_heads(4));
  EXPECT_TRUE(pools([&] { pool->forward(patterns()); }));
  EXPECT_TRUE(pools([&] { pool->forward(patterns()[0]); }));
  EXPECT_TRUE(pools([&] { pool->pool_bags({patterns().flatten(0, 1), some_offsets(), {}}); }));
  EXPECT_TRUE(pools([&] { pool->associate({patterns()}, {}, AssociationRequest().with_association()); }));
  EXPECT_FALSE(pools([&] { pool->associate({patterns()}, {}, AssociationRequest().with_energy()); }));
  HopfieldPooling many(HopfieldPoolingOptions(kSize).num_heads(4).quantity(11));
  EXPECT_FALSE(pools([&] { many->forward(patterns()); }));

  HopfieldLayer lookup(HopfieldLayerOptions(kSize).num_heads(4).quantity(kKeys));
  EXPECT_TRUE(pools([&] { lookup->forward(queries(1).slice(0, 0, 1)); }));
  EXPECT_FALSE(pools([&] { lookup->forward(queries(1)); })) << "the batch shares the stored patterns";
}

/// Batch sizes that do not fit are refused in the same words, whatever the number of queries.
TEST(Route, WrongBatchSizesAreRefusedAlike) {
  Hopfield layer(some_options());
  for (const int64_t count : {1, 30}) {
    try {
      layer->associate({floats({2, count, kSize}), patterns()});
      ADD_FAILURE() << count;
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find("batch size, or 1, got 3, 2 and 3"), std::string::npos) << error.what();
    }
  }
}

/// Padding may hold anything, also where associate() gets one tensor in all roles, as forward() does.
TEST(Route, OneTensorInAllRolesIsForward) {
  Hopfield layer(some_options());
  auto padding = at::zeros({kBatch, kKeys}, at::kBool);
  padding[0].slice(0, 3).fill_(true);
  const auto x = patterns().masked_fill(padding.unsqueeze(-1), std::numeric_limits<float>::quiet_NaN());
  const auto forward = layer->forward(x, padding), associated = layer->associate({x, x}, {padding}).output;
  EXPECT_TRUE(at::isfinite(forward).all().item<bool>());
  EXPECT_EQ(max_difference(forward, associated), 0);
}

}  // namespace
}  // namespace hopfield::nn
