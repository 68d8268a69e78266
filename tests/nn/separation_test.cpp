// The layers pass their separation on to the ops, and their association is that of the separation.

#include "nn/called_ops.h"
#include "support/errors.h"
#include "support/gradcheck.h"
#include "support/naive.h"
#include <hopfield/core/update.h>
#include <hopfield/hopfield.h>

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace hopfield::nn {
namespace {

using testing::bitwise_equal;
using testing::error_of;
using ::testing::HasSubstr;
using testing::max_difference;
using testing::randn;

const std::vector<Separation>& other_separations() {
  static const std::vector<Separation> all{Separation::softmax1(), Separation::sparsemax(), Separation::entmax(1.5),
                                           Separation::entmax(1.3)};
  return all;
}

template <typename Layer>
void set_parameters(Layer& layer) {
  layer->to(torch::kFloat64);
  const torch::NoGradGuard no_grad;
  uint64_t seed = 10;
  for (auto& parameter : layer->parameters()) parameter.copy_(parameter + 0.4 * randn(parameter.sizes(), ++seed));
}

template <typename Layer>
std::string printed(const Layer& layer) {
  std::ostringstream stream;
  stream << *layer;
  return stream.str();
}

const auto kWithAssociation = AssociationRequest().with_association();

TEST(LayerSeparation, OfStaticPatternsIsRetrieve) {
  const auto state = randn({2, 4, 8}, 1), stored = randn({2, 6, 8}, 2), values = randn({2, 6, 3}, 3);
  for (const auto& separation : other_separations()) {
    Hopfield layer(HopfieldOptions().all_static().scaling(0.6).separation(separation).fixed_steps(2));
    const auto r = layer->associate({state, stored, values}, {}, AssociationRequest().with_association().with_energy());
    const auto expected =
        retrieve({state, stored, values},
                 RetrieveOptions().beta(0.6).separation(separation).fixed_steps(2).with_scores().with_energy());
    EXPECT_LT(max_difference(r.output, expected.output), 1e-14) << to_string(separation);
    EXPECT_LT(max_difference(r.energy.squeeze(1), expected.energy), 1e-14);
    EXPECT_LT(max_difference(r.association.squeeze(1), core::association(expected.scores, separation)), 1e-14);
  }
}

TEST(LayerSeparation, AssociationMatrixReadsTheValuesOut) {
  const auto x = randn({2, 5, 8}, 1);
  auto padding = at::zeros({2, 5}, at::kBool);
  padding[1].slice(0, 2).fill_(true);
  for (const auto& separation : other_separations()) {
    Hopfield layer(HopfieldOptions(8)
                       .num_heads(2)
                       .scaling(2.0)
                       .separation(separation)
                       .fixed_steps(1)
                       .disable_out_projection(true));
    set_parameters(layer);
    const auto r = layer->associate({x, x, x}, {padding}, kWithAssociation);
    const auto values = layer->get_projected_pattern_matrix({x, x, x});  // [N, H, S, d_v]
    const auto read_out = r.association.matmul(values).transpose(1, 2).flatten(2);
    EXPECT_LT(max_difference(r.output, read_out), 1e-13) << to_string(separation);
    EXPECT_EQ(r.association[1].slice(-1, 2).abs().max().item<double>(), 0);
    if (separation.is_sparse()) {
      EXPECT_GT(r.association[0].eq(0).sum().item<int64_t>(), 0);
    }
  }
}

TEST(LayerSeparation, RaggedEqualsOneByOneWithAppendedPatterns) {
  const std::vector<int64_t> keys{0, 4, 4, 9}, queries{0, 2, 3, 6};
  const auto stored = randn({9, 8}, 1), state = randn({6, 8}, 2);
  for (const auto& separation : other_separations()) {
    Hopfield layer(HopfieldOptions(8)
                       .num_heads(2)
                       .separation(separation)
                       .fixed_steps(2)
                       .concat_bias_pattern(true)
                       .add_zero_association(true));
    set_parameters(layer);
    const auto ragged =
        layer->associate_bags({state, stored}, at::tensor(queries, at::kLong), at::tensor(keys, at::kLong));
    const auto common = layer->associate_bags({state.slice(0, 0, 1).unsqueeze(0), stored}, {},
                                              at::tensor(keys, at::kLong), {}, kWithAssociation);
    for (size_t n = 0; n < 3; ++n) {
      const auto bag = stored.slice(0, keys[n], keys[n + 1]);
      const auto alone = layer->associate({state.slice(0, queries[n], queries[n + 1]).unsqueeze(0), bag.unsqueeze(0)});
      EXPECT_LT(max_difference(ragged.output.slice(0, queries[n], queries[n + 1]), alone.output[0]), 1e-13)
          << to_string(separation);
      const auto one = layer->associate({state.slice(0, 0, 1).unsqueeze(0), bag.unsqueeze(0)}, {}, kWithAssociation);
      const auto association = common.association.slice(0, keys[n], keys[n + 1]).permute({1, 2, 0});  // [H, L, S]
      EXPECT_LT(max_difference(association, one.association[0].slice(-1, 0, bag.size(0))), 1e-13);
    }
  }
}

TEST(LayerSeparation, GradientsOfAllParametersAreRight) {
  for (const auto& separation : other_separations()) {
    HopfieldPooling pool(
        HopfieldPoolingOptions(4).num_heads(2).scaling_as_trainable(true).separation(separation).fixed_steps(1));
    set_parameters(pool);
    auto parameters = pool->parameters();
    const auto bags = BagBatch::from(std::vector<at::Tensor>{randn({3, 4}, 1), randn({1, 4}, 2), randn({5, 4}, 3)});
    const auto weight = randn({3, 4}, 4);
    const auto loss = [&] { return (pool->pool_bags(bags) * weight).sum(); };
    const auto gradients = torch::autograd::grad({loss()}, parameters);
    const torch::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters.size(); ++i) {
      const auto direction = randn(parameters[i].sizes(), 20 + i);
      constexpr double kStep = 1e-6;
      parameters[i].add_(direction, kStep);
      const auto above = loss().item<double>();
      parameters[i].sub_(direction, 2 * kStep);
      const auto below = loss().item<double>();
      parameters[i].add_(direction, kStep);
      EXPECT_NEAR((gradients[i] * direction).sum().item<double>(), (above - below) / (2 * kStep), 1e-7)
          << to_string(separation) << " " << i;
    }
  }
}

TEST(LayerSeparation, LookupFindsItsPatternsExactly) {
  const auto patterns = randn({20, 32}, 1), noisy = patterns + 0.2 * randn({20, 32}, 2);
  HopfieldLayer lookup(HopfieldLayerOptions(32)
                           .all_static()
                           .scaling(2.0)
                           .quantity(20)
                           .trainable(false)
                           .separation(Separation::entmax(1.5))
                           .fixed_steps(1));
  lookup->to(torch::kFloat64);
  lookup->set_patterns(patterns);
  EXPECT_TRUE(bitwise_equal(lookup->forward(noisy.unsqueeze(0))[0], patterns));
}

TEST(LayerSeparation, IsPrintedUnlessItIsSoftmax) {
  EXPECT_THAT(printed(Hopfield(HopfieldOptions(8))), ::testing::Not(HasSubstr("separation")));
  EXPECT_THAT(printed(Hopfield(HopfieldOptions(8).separation(Separation::softmax1()))),
              HasSubstr("separation=softmax1"));
  EXPECT_THAT(printed(HopfieldPooling(HopfieldPoolingOptions(8).separation(Separation::entmax(1.25)))),
              HasSubstr("separation=entmax(1.25)"));
  EXPECT_THAT(printed(HopfieldLayer(HopfieldLayerOptions(8).separation(Separation::sparsemax()))),
              HasSubstr("separation=sparsemax"));
}

TEST(LayerSeparation, AlphaIsCheckedAtConstruction) {
  EXPECT_THAT(error_of([] { Hopfield(HopfieldOptions(8).separation(Separation::entmax(1.0))); }),
              HasSubstr("hopfield::nn::Hopfield: expected the alpha of separation entmax(alpha)"));
  EXPECT_THAT(error_of([] { HopfieldPooling(HopfieldPoolingOptions(8).separation(Separation::entmax(2.5))); }),
              HasSubstr("hopfield::nn::HopfieldPooling: expected the alpha of separation entmax(alpha)"));
}

TEST(LayerSeparation, FewQueriesAreProjectedWhereTheKernelsOfPoolDoNotServeThem) {
  const auto x = randn({3, 40, 32}, 1).to(at::kFloat), query = randn({3, 1, 32}, 2).to(at::kFloat);
  for (const auto& separation : other_separations()) {
    Hopfield layer(HopfieldOptions(32).num_heads(4).separation(separation));
    const auto ops = testing::called_ops([&] { layer->associate({query, x}); });
    EXPECT_EQ(ops.count("hopfield::pool"), 0) << to_string(separation);
    EXPECT_EQ(ops.count("hopfield::retrieve"), 1);
  }
}

}  // namespace
}  // namespace hopfield::nn
