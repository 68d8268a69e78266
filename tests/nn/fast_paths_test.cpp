// The layers' fast paths (queries absorbed into the projection of a bag, one product that projects all three roles, the
// fused kernels in float32) against their slow path (every role projected by itself, LibTorch operations, float64),
// with every option at values that are not its defaults.

#include "nn/called_ops.h"
#include "support/close.h"
#include "support/naive.h"
#include <hopfield/nn/hopfield_layer.h>
#include <hopfield/nn/hopfield_pooling.h>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include <gtest/gtest.h>

namespace hopfield::nn {
namespace {

using testing::expect_close;
using testing::expect_close_results;
using testing::randn;

constexpr int64_t kSize = 8, kBatch = 3, kKeys = 7, kTotal = 12;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename Options>
struct Change {
  std::string name;
  std::function<void(Options&)> apply;
};

/// What the options are changed from: already unlike the defaults in the numbers of heads, sizes and updates.
template <typename Options>
Options base() {
  return Options(kSize).num_heads(2).hidden_size(5).output_size(6).scaling(1.7).update_steps_max(2).update_steps_eps(
      0.0);
}

/// One change for each option, and combinations that decide between the paths.
template <typename Options>
std::vector<Change<Options>> changes() {
  using O = Options;
  return {
      {"base", [](O&) {}},
      {"defaults", [](O& o) { o = O(kSize); }},
      {"hidden_size", [](O& o) { o.hidden_size(3); }},
      {"pattern_size", [](O& o) { o.pattern_size(3); }},
      {"output_size", [](O& o) { o.output_size(9); }},
      {"one head", [](O& o) { o.num_heads(1); }},
      {"scaling per head",
       [](O& o) {
         o.scaling({0.6, 2.5});
       }},
      {"negative scaling", [](O& o) { o.scaling(-0.8); }},
      {"scaling_as_trainable",
       [](O& o) {
         o.scaling({0.6, 2.5}).scaling_as_trainable(true);
       }},
      {"no updates", [](O& o) { o.update_steps_max(0); }},
      {"update_steps_max per head",
       [](O& o) {
         o.update_steps_max({3, 1});
       }},
      {"update_steps_eps", [](O& o) { o.update_steps_max(9).update_steps_eps(0.03); }},
      {"update_steps_eps per head",
       [](O& o) {
         o.update_steps_max(9).update_steps_eps({0.3, 1e-3});
       }},
      {"update_steps_cap", [](O& o) { o.until_converged().update_steps_eps(1e-3).update_steps_cap(3); }},
      {"until_converged", [](O& o) { o.until_converged().update_steps_eps(1e-3); }},
      {"stop_rule",
       [](O& o) {
         o.update_steps_max(9).update_steps_eps({0.3, 1e-2}).stop_rule(StopRule::per_head);
       }},
      {"gradient of the last update", [](O& o) { o.update_steps_max(3).gradient(Gradient::last(1)); }},
      {"gradient of no update", [](O& o) { o.gradient(Gradient::last(0)); }},
      {"implicit gradient",
       [](O& o) { o.until_converged().update_steps_eps(1e-3).gradient(Gradient::implicit()).scaling(0.3); }},
      {"eps of all norms",
       [](O& o) {
         o.normalize_stored_pattern_eps(0.02).normalize_state_pattern_eps(0.02).normalize_pattern_projection_eps(0.02);
       }},
      {"eps of stored and values",
       [](O& o) { o.normalize_stored_pattern_eps(0.02).normalize_pattern_projection_eps(0.02); }},
      {"eps of stored", [](O& o) { o.normalize_stored_pattern_eps(0.02); }},
      {"eps of state", [](O& o) { o.normalize_state_pattern_eps(0.02); }},
      {"eps of values", [](O& o) { o.normalize_pattern_projection_eps(0.02); }},
      {"no affine parts",
       [](O& o) {
         o.normalize_stored_pattern_affine(false).normalize_state_pattern_affine(false);
         o.normalize_pattern_projection_affine(false);
       }},
      {"no affine part of stored", [](O& o) { o.normalize_stored_pattern_affine(false); }},
      {"no affine part of state", [](O& o) { o.normalize_state_pattern_affine(false); }},
      {"no affine part of values", [](O& o) { o.normalize_pattern_projection_affine(false); }},
      {"no norms", [](O& o) { o.normalize_inputs(false); }},
      {"no norm of stored", [](O& o) { o.normalize_stored_pattern(false).normalize_stored_pattern_affine(false); }},
      {"no norm of state", [](O& o) { o.normalize_state_pattern(false).normalize_state_pattern_affine(false); }},
      {"no norm of values",
       [](O& o) { o.normalize_pattern_projection(false).normalize_pattern_projection_affine(false); }},
      {"no norm of stored and values",
       [](O& o) {
         o.normalize_stored_pattern(false).normalize_stored_pattern_affine(false);
         o.normalize_pattern_projection(false).normalize_pattern_projection_affine(false);
       }},
      {"normalize_hopfield_space", [](O& o) { o.normalize_hopfield_space(true).normalize_hopfield_space_eps(0.3); }},
      {"normalize_hopfield_space_affine",
       [](O& o) { o.normalize_hopfield_space(true).normalize_hopfield_space_affine(true); }},
      {"static stored", [](O& o) { o.hidden_size(kSize).stored_pattern_as_static(true); }},
      {"static state", [](O& o) { o.hidden_size(kSize).state_pattern_as_static(true); }},
      {"static values", [](O& o) { o.hidden_size(kSize).pattern_projection_as_static(true); }},
      {"static but the values",
       [](O& o) { o.stored_pattern_as_static(true).state_pattern_as_static(true).hidden_size(kSize); }},
      {"all static", [](O& o) { o.all_static(); }},
      {"connected", [](O& o) { o.pattern_projection_as_connected(true); }},
      {"connected without biases", [](O& o) { o.pattern_projection_as_connected(true).input_bias(false); }},
      {"batch_first", [](O& o) { o.batch_first(false); }},
      {"activation", [](O& o) { o.association_activation("tanh"); }},
      {"dropout", [](O& o) { o.dropout(0.4); }},
      {"no biases", [](O& o) { o.input_bias(false); }},
      {"no biases, no affine parts", [](O& o) { o.input_bias(false).normalize_inputs(false); }},
      {"bias pattern", [](O& o) { o.concat_bias_pattern(true); }},
      {"zero pattern", [](O& o) { o.add_zero_association(true); }},
      {"both patterns", [](O& o) { o.concat_bias_pattern(true).add_zero_association(true); }},
      {"no output projection", [](O& o) { o.disable_out_projection(true); }},
  };
}

/// Patterns of so small a variance that the eps of a norm matters.
at::Tensor patterns(at::IntArrayRef shape, uint64_t seed) { return 0.15 * randn(shape, seed) + 0.05; }

template <typename Layer>
void prepare(Layer& layer) {
  torch::NoGradGuard no_grad;
  uint64_t seed = 10;
  for (auto& item : layer->named_parameters()) {
    auto& p = item.value();
    const bool is_scaling = item.key().find("scaling") != std::string::npos;  // stays what the options say
    const bool is_norm = item.key().find("norm") != std::string::npos && item.key().find("weight") != std::string::npos;
    if (!is_scaling) p.copy_((0.35 * randn(p.sizes(), ++seed) + (is_norm ? 0.4 : 0)).to(at::kFloat));
  }
  layer->set_generator(at::detail::createCPUGenerator(5));
}

/// The same layer with the same parameters, in float64 and with LibTorch's operations.
template <typename Layer>
Layer slow_twin(const Layer& layer) {
  auto twin = Layer(std::dynamic_pointer_cast<typename Layer::ContainedType>(layer->clone()));
  twin->to(at::kDouble);
  return twin;
}

struct Results {
  AssociationResult differentiated, inspected;
  std::vector<std::pair<std::string, at::Tensor>> gradients;
};

/// A call of either twin: with gradients of its float results for the tensor it is given and for all parameters, and
/// without, where everything is asked for that a call can return.
template <typename Layer, typename Call>
Results run(Layer& layer, const at::Tensor& input, const AssociationRequest& everything, const Call& call) {
  const auto leaf = input.detach().clone().requires_grad_(true);
  Results results;
  const auto& r = results.differentiated = call(layer, leaf, AssociationRequest());
  at::Tensor loss = at::zeros({}, at::kDouble);
  uint64_t seed = 50;
  for (const auto* result : {&r.output, &r.state, &r.logsumexp}) {
    ++seed;
    if (!result->requires_grad()) continue;
    loss =
        loss + (result->to(at::kDouble).masked_fill(at::isneginf(*result), 0.0) * randn(result->sizes(), seed)).sum();
  }
  layer->zero_grad();
  loss.backward();
  results.gradients.emplace_back("input", leaf.grad());
  for (const auto& p : layer->named_parameters()) results.gradients.emplace_back(p.key(), p.value().grad());
  const torch::NoGradGuard no_grad;
  results.inspected = call(layer, leaf.detach(), everything);
  return results;
}

void compare(const Results& fast, const Results& slow) {
  expect_close_results(fast.differentiated, slow.differentiated);
  expect_close_results(fast.inspected, slow.inspected);
  expect_close(fast.inspected.association, slow.inspected.association, "association");
  for (size_t i = 0; i < fast.gradients.size(); ++i) {
    const auto& [name, gradient] = slow.gradients[i];
    expect_close(fast.gradients[i].second, gradient, "gradient of " + name);
  }
}

AssociationCore& core_of(Hopfield& layer) { return layer->association_core; }
template <typename Layer>
AssociationCore& core_of(Layer& layer) {
  return layer->hopfield->association_core;
}

/// Runs `call(layer, input, request)` on a layer and on its slow twin.
template <typename Layer, typename Call>
void compare_paths(Layer layer, const at::Tensor& input, const Call& call,
                   bool with_energy = !std::is_same_v<Layer, HopfieldPooling>) {
  prepare(layer);
  auto twin = slow_twin(layer);
  core_of(twin)->settings.backend = Backend::composite;
  auto everything = AssociationRequest().with_association();
  // Energies need a positive beta, and are not defined under dropout. Who asks for them gets the path that forms keys.
  everything.with_energy(with_energy && layer->options.dropout() == 0 &&
                         core_of(layer)->beta().min().template item<double>() > 0);
  compare(run(layer, input.to(at::kFloat), everything, call),
          run(twin, input.to(at::kFloat).to(at::kDouble), everything, call));
}

/// Kinds of masks that a layer takes, for `queries` queries and two heads.
std::vector<std::pair<std::string, Masks>> all_masks(int64_t queries, int64_t heads, int64_t keys) {
  auto padding = at::zeros({kBatch, keys}, at::kBool);
  padding[0][1].fill_(true);
  padding[2].slice(0, keys - 2).fill_(true);
  auto excluded = randn({kBatch * heads, queries, keys}, 3) > 0.8;
  excluded.select(2, 0).fill_(false);
  const auto added = randn({queries, keys}, 4).to(at::kFloat);
  auto bias = randn({kBatch, keys}, 5).to(at::kFloat);
  bias[1][2].fill_(-kInfinity);
  return {{"no mask", {}},
          {"padding", {padding, {}, {}}},
          {"excluded scores", {{}, excluded, {}}},
          {"added scores", {{}, added, {}}},
          {"key bias", {{}, {}, bias}},
          {"shared key bias", {{}, {}, bias.slice(0, 0, 1)}},
          {"all", {padding, excluded, bias}}};
}

Masks in_double(Masks masks) {
  for (auto* mask : {&masks.association_mask, &masks.key_bias}) {
    if (mask->defined() && mask->scalar_type() == at::kFloat) *mask = mask->to(at::kDouble);
  }
  return masks;
}

template <typename Layer>
Masks masks_for(const Layer& layer, const Masks& masks) {
  const auto parameters = layer->parameters();
  return !parameters.empty() && parameters[0].scalar_type() == at::kDouble ? in_double(masks) : masks;
}

at::Tensor batch_form(const at::Tensor& input, bool batch_first) { return batch_first ? input : input.transpose(0, 1); }

/// Whether a call in float32 takes the fast path.
bool is_absorbed(const std::function<void()>& call) { return testing::called_ops(call).count("hopfield::pool") > 0; }

TEST(FastPaths, AbsorbedPoolingOfPaddedBags) {
  bool was_absorbed = false;
  for (const auto& change : changes<HopfieldPoolingOptions>()) {
    auto options = base<HopfieldPoolingOptions>();
    change.apply(options);
    for (const auto& [name, masks] : all_masks(1, options.num_heads(), kKeys)) {
      const ::testing::ScopedTrace trace(__FILE__, __LINE__, change.name + ", " + name);
      HopfieldPooling layer(options);
      const auto input = batch_form(patterns({kBatch, kKeys, kSize}, 1), options.batch_first());
      was_absorbed |= is_absorbed([&] { layer->forward(input.to(at::kFloat)); });
      compare_paths(layer, input,
                    [&, masks = masks](HopfieldPooling& pool, const at::Tensor& x, const AssociationRequest& request) {
                      return pool->associate({x}, masks_for(pool, masks), request);
                    });
    }
  }
  EXPECT_TRUE(was_absorbed);
}

TEST(FastPaths, AbsorbedPoolingOfRaggedBags) {
  const auto offsets = at::tensor({int64_t{0}, int64_t{7}, int64_t{7}, kTotal});
  HopfieldPooling two(base<HopfieldPoolingOptions>().quantity(2));
  ASSERT_TRUE(is_absorbed([&] { two->pool_bags({at::zeros({kTotal, kSize}), offsets, {}}); }));
  for (const auto& change : changes<HopfieldPoolingOptions>()) {
    for (const int64_t quantity : {1, 2}) {
      const ::testing::ScopedTrace trace(__FILE__, __LINE__, c10::str(change.name, ", quantity ", quantity));
      auto options = base<HopfieldPoolingOptions>();
      change.apply(options);
      compare_paths(HopfieldPooling(options.quantity(quantity)), patterns({kTotal, kSize}, 2),
                    [&](HopfieldPooling& pool, const at::Tensor& x, const AssociationRequest& request) {
                      return pool->associate_bags({x, offsets, {}}, {}, {}, request);
                    });
    }
  }
}

/// One query, of each bag or of all, in front of the patterns, so that both get a gradient.
TEST(FastPaths, AbsorbedQueriesOnPaddedPatterns) {
  bool was_absorbed = false;
  for (const auto& change : changes<HopfieldOptions>()) {
    auto options = base<HopfieldOptions>();
    change.apply(options);
    const int64_t batch = options.batch_first() ? 0 : 1, rows = 1 - batch;
    for (const bool shared : {false, true}) {
      for (const auto& [name, masks] : all_masks(1, options.num_heads(), kKeys)) {
        const ::testing::ScopedTrace trace(__FILE__, __LINE__, c10::str(change.name, ", ", name, ", shared ", shared));
        const auto call = [&, masks = masks](Hopfield& layer, const at::Tensor& x, const AssociationRequest& request) {
          const auto state = x.narrow(rows, 0, 1);
          return layer->associate({shared ? state.narrow(batch, 1, 1) : state, x.slice(rows, 1)},
                                  masks_for(layer, masks), request);
        };
        Hopfield layer(options);
        const auto input = batch_form(patterns({kBatch, 1 + kKeys, kSize}, 8), options.batch_first());
        was_absorbed |= is_absorbed([&] { call(layer, input.to(at::kFloat), {}); });
        compare_paths(layer, input, call, /*with_energy=*/false);
      }
    }
  }
  EXPECT_TRUE(was_absorbed);
}

TEST(FastPaths, AbsorbedQueriesOnRaggedPatterns) {
  const auto offsets = at::tensor({int64_t{0}, int64_t{7}, int64_t{7}, kTotal});
  const auto some_bias = randn({kTotal}, 9).to(at::kFloat);
  some_bias[3].fill_(-kInfinity);
  bool was_absorbed = false;
  for (const auto& change : changes<HopfieldOptions>()) {
    auto options = base<HopfieldOptions>();
    change.apply(options);
    for (const auto& bias : {at::Tensor(), some_bias}) {
      for (const bool shared : {false, true}) {
        const ::testing::ScopedTrace trace(__FILE__, __LINE__,
                                           c10::str(change.name, ", key bias ", bias.defined(), ", shared ", shared));
        const auto call = [&, bias = bias](Hopfield& layer, const at::Tensor& x, const AssociationRequest& request) {
          const auto state = x.slice(0, 0, kBatch).unsqueeze(1);  // [N, 1, size]
          return layer->associate_bags({shared ? state.slice(0, 0, 1) : state, x.slice(0, kBatch)}, {}, offsets,
                                       masks_for(layer, {{}, {}, bias}), request);
        };
        Hopfield layer(options);
        const auto input = patterns({kBatch + kTotal, kSize}, 9);
        was_absorbed |= is_absorbed([&] { call(layer, input.to(at::kFloat), {}); });
        compare_paths(layer, input, call, /*with_energy=*/false);
      }
    }
  }
  EXPECT_TRUE(was_absorbed);
}

TEST(FastPaths, PatternsThatAttendToThemselves) {
  for (const auto& change : changes<HopfieldOptions>()) {
    auto options = base<HopfieldOptions>();
    change.apply(options);
    for (const auto& [name, masks] : all_masks(kKeys, options.num_heads(), kKeys)) {
      const ::testing::ScopedTrace trace(__FILE__, __LINE__, change.name + ", " + name);
      compare_paths(Hopfield(options), batch_form(patterns({kBatch, kKeys, kSize}, 3), options.batch_first()),
                    [&, masks = masks](Hopfield& layer, const at::Tensor& x, const AssociationRequest& request) {
                      // A copy is another tensor, so that the twin projects each role by itself.
                      const auto other =
                          layer->association_core->settings.backend == Backend::composite ? x.clone() : x;
                      return layer->associate({x, other}, masks_for(layer, masks), request);
                    });
    }
  }
}

TEST(FastPaths, PatternsOfThreeOrigins) {
  for (const auto& change : changes<HopfieldOptions>()) {
    auto options = base<HopfieldOptions>();
    change.apply(options);
    const auto form = [&](const at::Tensor& input) { return batch_form(input, options.batch_first()); };
    const auto state = form(patterns({kBatch, 4, kSize}, 5)), projection = form(patterns({kBatch, kKeys, kSize}, 6));
    for (const auto& [name, masks] : all_masks(4, options.num_heads(), kKeys)) {
      const ::testing::ScopedTrace trace(__FILE__, __LINE__, change.name + ", " + name);
      compare_paths(Hopfield(options), form(patterns({kBatch, kKeys, kSize}, 4)),
                    [&, masks = masks](Hopfield& layer, const at::Tensor& x, const AssociationRequest& request) {
                      return layer->associate(
                          {state.to(at::kFloat).to(x.options()), x, projection.to(at::kFloat).to(x.options())},
                          masks_for(layer, masks), request);
                    });
    }
  }
}

TEST(FastPaths, StoredPatternsOfALayer) {
  for (const auto& change : changes<HopfieldLayerOptions>()) {
    for (const bool separated : {false, true}) {
      const ::testing::ScopedTrace trace(__FILE__, __LINE__, c10::str(change.name, ", separated ", separated));
      auto options = base<HopfieldLayerOptions>();
      change.apply(options);
      if (separated) options.lookup_weights_as_separated(true);
      compare_paths(HopfieldLayer(options.quantity(kKeys)),
                    batch_form(patterns({kBatch, 4, kSize}, 7), options.batch_first()),
                    [&](HopfieldLayer& layer, const at::Tensor& x, const AssociationRequest& request) {
                      return layer->associate(x, {}, request);
                    });
    }
  }
}

}  // namespace
}  // namespace hopfield::nn
