#include "support/naive.h"
#include <hopfield/nn/hopfield_layer.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace hopfield::nn {
namespace {

using testing::bitwise_equal;
using testing::max_difference;
using testing::randn;

TEST(HopfieldLayer, EqualsAssociationWithItsLookups) {
  for (const bool separated : {false, true}) {
    HopfieldLayer layer(
        HopfieldLayerOptions(8).num_heads(2).quantity(7).update_steps_max(2).lookup_weights_as_separated(separated));
    layer->to(torch::kFloat64);
    const auto x = randn({3, 4, 8}, 1);
    const auto expand = [](const at::Tensor& w) { return w.expand({3, -1, -1}).contiguous(); };
    const auto expected = layer->hopfield
                              ->associate({x, expand(layer->lookup_weights),
                                           expand(separated ? layer->target_weights : layer->lookup_weights)})
                              .output;
    EXPECT_LT(max_difference(layer->forward(x), expected), 1e-14);
    EXPECT_EQ(layer->get_association_matrix(x).sizes(), at::IntArrayRef({3, 2, 4, 7}));
    EXPECT_EQ(layer->get_projected_pattern_matrix(x).sizes(), at::IntArrayRef({3, 2, 7, 4}));
  }
}

TEST(HopfieldLayer, FreezesWhatIsNotTrainable) {
  HopfieldLayer layer(HopfieldLayerOptions(8)
                          .quantity(5)
                          .trainable(false)
                          .lookup_weights_as_separated(true)
                          .lookup_targets_as_trainable(false));
  EXPECT_FALSE(layer->lookup_weights.requires_grad());
  EXPECT_FALSE(layer->target_weights.requires_grad());
  EXPECT_TRUE(layer->hopfield->association_core->in_proj_weight.requires_grad());
}

TEST(HopfieldLayer, StoresPatternsOfAnyNumber) {
  HopfieldLayer layer(HopfieldLayerOptions(4).quantity(2).lookup_weights_as_separated(true).pattern_projection_size(3));
  const auto parameter = layer->lookup_weights;
  const auto patterns = randn({6, 4}, 1), targets = randn({6, 3}, 2);
  layer->set_patterns(patterns, targets);
  EXPECT_TRUE(layer->named_parameters()["lookup_weights"].is_same(parameter)) << "the parameter stays the same object";
  EXPECT_TRUE(bitwise_equal(layer->lookup_weights[0], patterns.to(at::kFloat)));
  EXPECT_TRUE(bitwise_equal(layer->target_weights[0], targets.to(at::kFloat)));
  EXPECT_TRUE(layer->lookup_weights.requires_grad());
  EXPECT_EQ(layer->options.quantity(), 6);
  const auto x = at::ones({1, 2, 4});
  EXPECT_EQ(layer->forward(x).sizes(), at::IntArrayRef({1, 2, 4}));
  const auto copy = std::dynamic_pointer_cast<HopfieldLayerImpl>(layer->clone());
  EXPECT_TRUE(bitwise_equal(copy->forward(x), layer->forward(x)));

  HopfieldLayer turned(HopfieldLayerOptions(4).batch_first(false));
  turned->set_patterns(patterns);
  EXPECT_EQ(turned->lookup_weights.sizes(), at::IntArrayRef({6, 1, 4}));
}

/// The digits table: 64 pixels and a label in each row.
std::pair<at::Tensor, at::Tensor> read_digits() {
  std::ifstream stream(HOPFIELD_DATA_DIR "/digits.csv");
  std::vector<double> values;
  for (std::string line; std::getline(stream, line);) {
    std::istringstream row(line);
    for (std::string field; std::getline(row, field, ',');) values.push_back(std::stod(field));
  }
  const auto table = at::tensor(values, at::kDouble).view({-1, 65});
  return {table.slice(1, 0, 64), table.select(1, 64).to(at::kLong)};
}

TEST(HopfieldLayer, IsANearestNeighbourClassifierOfStoredData) {
  if (!std::ifstream(HOPFIELD_DATA_DIR "/digits.csv"))
    GTEST_SKIP() << "no digits.csv: run scripts/bootstrap.sh --tests";
  const auto [pixels, labels] = read_digits();
  ASSERT_EQ(pixels.size(0), 1797);
  const auto rows = pixels / pixels.norm(2, 1, true);
  const auto train = rows.slice(0, 0, 1000), test = rows.slice(0, 1000);
  const auto train_labels = labels.slice(0, 0, 1000);

  HopfieldLayer layer(HopfieldLayerOptions(64)
                          .all_static()
                          .quantity(1)
                          .trainable(false)
                          .scaling(1e6)
                          .lookup_weights_as_separated(true)
                          .lookup_targets_as_trainable(false)
                          .pattern_projection_size(10));
  layer->to(torch::kFloat64);
  layer->set_patterns(train, at::one_hot(train_labels, 10).to(at::kDouble));
  const auto predicted = layer->forward(test.unsqueeze(0))[0].argmax(-1);

  const auto similarity = test.matmul(train.t());
  const auto [nearest, which] = similarity.topk(2, -1);
  const auto has_tie = (nearest.select(1, 0) - nearest.select(1, 1)).abs() < 1e-9;
  const auto expected = train_labels.index_select(0, which.select(1, 0));
  EXPECT_LT(has_tie.sum().item<int64_t>(), 5);
  EXPECT_TRUE(predicted.eq(expected).logical_or(has_tie).all().item<bool>());
  EXPECT_GT(predicted.eq(labels.slice(0, 1000)).to(at::kDouble).mean().item<double>(), 0.9);
}

}  // namespace
}  // namespace hopfield::nn
