#include "support/errors.h"

#include <hopfield/hopfield.h>

#include <torch/torch.h>

namespace hopfield::nn {
namespace {

using hopfield::testing::expect_error;
using hopfield::testing::WrongCall;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::function<void()> make(HopfieldOptions options) {
  return [=] { Hopfield layer(options); };
}

TEST(LayerErrors, WrongOptionsAreRefusedAtConstruction) {
  const std::vector<WrongCall> calls{
      {"negative input_size", make(HopfieldOptions(-8)), {"input_size", "positive", "-8"}},
      {"zero input_size", make(HopfieldOptions(0)), {"input_size", "positive", "0"}},
      {"no input_size", make(HopfieldOptions()), {"input_size"}},
      {"heads that do not divide",
       make(HopfieldOptions(10).num_heads(3)),
       {"input_size", "divisible by num_heads", "10 and 3", "hidden_size"}},
      {"no heads", make(HopfieldOptions(8).num_heads(0)), {"num_heads", "positive"}},
      {"negative heads", make(HopfieldOptions(8).num_heads(-2)), {"num_heads", "positive", "-2"}},
      {"negative hidden_size", make(HopfieldOptions(8).hidden_size(-1)), {"hidden_size", "positive"}},
      {"zero pattern_size", make(HopfieldOptions(8).pattern_size(0)), {"pattern_size", "positive"}},
      {"zero output_size", make(HopfieldOptions(8).output_size(0)), {"output_size", "positive"}},
      {"negative stored_pattern_size",
       make(HopfieldOptions(8).stored_pattern_size(-3)),
       {"stored_pattern_size", "positive"}},
      {"negative pattern_projection_size",
       make(HopfieldOptions(8).pattern_projection_size(-3)),
       {"pattern_projection_size", "positive"}},
      {"NaN beta", make(HopfieldOptions(8).scaling(kNaN)), {"scaling", "finite", "nan"}},
      {"infinite beta", make(HopfieldOptions(8).scaling(INFINITY)), {"scaling", "finite"}},
      {"beta for other heads",
       make(HopfieldOptions(8).num_heads(4).scaling({1.0, 2.0})),
       {"scaling", "4 heads", "2 values"}},
      {"steps for other heads",
       make(HopfieldOptions(8).num_heads(4).update_steps_max({1, 2})),
       {"update_steps_max", "4 heads"}},
      {"thresholds for other heads",
       make(HopfieldOptions(8).num_heads(4).update_steps_eps({1.0, 2.0})),
       {"update_steps_eps", "4 heads"}},
      {"negative threshold", make(HopfieldOptions(8).update_steps_eps(-1e-4)), {"update_steps_eps", "not negative"}},
      {"until converged without threshold",
       make(HopfieldOptions(8).until_converged().update_steps_eps(0)),
       {"update_steps_eps", "positive"}},
      {"no cap", make(HopfieldOptions(8).update_steps_cap(0)), {"update_steps_cap", "at least 1"}},
      {"implicit gradient of fixed steps",
       make(HopfieldOptions(8).update_steps_max(2).gradient(Gradient::implicit())),
       {"until_converged", "implicit"}},
      {"negative dropout", make(HopfieldOptions(8).dropout(-0.5)), {"dropout", "between 0 and 1"}},
      {"NaN dropout", make(HopfieldOptions(8).dropout(kNaN)), {"dropout", "nan"}},
      {"unknown activation",
       make(HopfieldOptions(8).association_activation("tahn")),
       {"association_activation", "'tahn'", "relu"}},
      {"activation that is no function of one tensor",
       make(HopfieldOptions(8).association_activation("matmul")),
       {"association_activation", "'matmul'"}},
      {"affine space norm without norm",
       make(HopfieldOptions(8).normalize_hopfield_space_affine(true)),
       {"normalize_hopfield_space_affine", "no effect"}},
      {"connected sizes differ",
       make(HopfieldOptions(8).pattern_projection_as_connected(true).stored_pattern_size(6)),
       {"stored_pattern_size", "pattern_projection_size", "6 and 8"}},
      {"connected widths differ",
       make(HopfieldOptions(8).pattern_projection_as_connected(true).pattern_size(3)),
       {"pattern_size", "hidden_size", "3 and 8"}},
      {"bias pattern for static keys",
       make(HopfieldOptions(8).concat_bias_pattern(true).stored_pattern_as_static(true)),
       {"concat_bias_pattern", "static"}},
      {"static without size for its norm",
       make(HopfieldOptions().all_static().normalize_state_pattern(true)),
       {"input_size", "normalize_state_pattern"}},
      {"no quantity", [] { HopfieldPooling pool(HopfieldPoolingOptions(8).quantity(0)); }, {"quantity", "positive"}},
      {"negative quantity",
       [] { HopfieldLayer layer(HopfieldLayerOptions(8).quantity(-1)); },
       {"quantity", "positive"}},
      {"pooling without input_size", [] { HopfieldPooling pool{HopfieldPoolingOptions()}; }, {"input_size"}},
      {"encoder that changes the width",
       [] { HopfieldEncoderLayer layer(HopfieldEncoderLayerOptions(HopfieldOptions(8).output_size(4))); },
       {"output_size", "input_size 8"}},
      {"encoder without feed-forward",
       [] { HopfieldEncoderLayer layer(HopfieldEncoderLayerOptions(HopfieldOptions(8)).dim_feedforward(0)); },
       {"dim_feedforward", "positive"}},
      {"encoder with unknown activation",
       [] { HopfieldEncoderLayer layer(HopfieldEncoderLayerOptions(HopfieldOptions(8)).activation("rleu")); },
       {"activation", "'rleu'"}},
      {"decoder of two widths",
       [] { HopfieldDecoderLayer layer(HopfieldDecoderLayerOptions(HopfieldOptions(8), HopfieldOptions(6))); },
       {"one input_size", "8 and 6"}},
  };
  for (const auto& wrong : calls) expect_error(wrong);
}

TEST(LayerErrors, WrongInputsAreNamed) {
  Hopfield layer(HopfieldOptions(8).num_heads(2));
  HopfieldPooling pool(HopfieldPoolingOptions(8));
  HopfieldLayer lookup(HopfieldLayerOptions(8).quantity(5));
  HopfieldLayer separated(HopfieldLayerOptions(8).quantity(5).lookup_weights_as_separated(true));
  const auto x = at::zeros({2, 4, 8});
  const auto meta = at::zeros({2, 4, 8}, at::TensorOptions().device(at::kMeta));
  const auto mask = [](at::IntArrayRef sizes) { return at::zeros(sizes, at::kBool); };
  const BagBatch bags{at::zeros({6, 8}), at::tensor({0, 2, 6}, at::kLong), {}};
  const std::vector<WrongCall> calls{
      {"undefined", [&] { layer->forward(at::Tensor()); }, {"state", "[N, rows, size]", "undefined"}},
      {"rank 1", [&] { layer->forward(at::zeros({8})); }, {"3 dimensions [N, rows, size]", "[8]"}},
      {"rank 4",
       [&] {
         layer->forward(at::zeros({1, 2, 4, 8}));
       },
       {"3 dimensions"}},
      {"width",
       [&] {
         layer->forward(at::zeros({2, 4, 7}));
       },
       {"size 8", "[2, 4, 7]"}},
      {"double input", [&] { layer->forward(x.to(at::kDouble)); }, {"Float", "Double", "to()"}},
      {"integer input", [&] { layer->forward(x.to(at::kLong)); }, {"floating-point", "Long"}},
      {"device", [&] { layer->forward(meta); }, {"cpu", "meta"}},
      {"padding shape",
       [&] {
         layer->forward(x, mask({2, 5}));
       },
       {"padding_mask", "[2, 4]", "[2, 5]"}},
      {"padding type",
       [&] {
         layer->forward(x, at::zeros({2, 4}));
       },
       {"padding_mask", "bool", "Float"}},
      {"mask shape",
       [&] {
         layer->forward(x, {}, mask({4, 5}));
       },
       {"association_mask", "[L, S] = [4, 4]", "[4, 5]"}},
      {"mask batch",
       [&] {
         layer->forward(x, {}, mask({2, 4, 4}));
       },
       {"association_mask", "[N * num_heads, L, S] = [4, 4, 4]"}},
      {"mask type",
       [&] {
         layer->forward(x, {}, at::zeros({4, 4}, at::kLong));
       },
       {"association_mask", "bool", "Long"}},
      {"batches differ",
       [&] {
         layer->associate({x, at::zeros({3, 4, 8})});
       },
       {"batch size", "3, 2 and 3"}},
      {"projection rows",
       [&] {
         layer->associate({x, x, at::zeros({2, 3, 8})});
       },
       {"projection", "4", "3"}},
      {"stored missing", [&] { layer->associate({x}); }, {"stored", "undefined"}},
      {"key bias shape",
       [&] {
         layer->associate({x, x, x}, {{}, {}, at::zeros({2, 3})});
       },
       {"key_bias", "[2, 3]"}},
      {"pooling width",
       [&] {
         pool->forward(at::zeros({2, 4, 6}));
       },
       {"stored", "size 8"}},
      {"pooling mask",
       [&] {
         pool->forward(x, mask({4, 2}));
       },
       {"padding_mask", "[2, 4]"}},
      {"bags of another width",
       [&] {
         pool->pool_bags({at::zeros({6, 7}), bags.offsets, {}});
       },
       {"stored", "size 8", "[6, 7]"}},
      {"bags of rank 3",
       [&] {
         pool->pool_bags({x, bags.offsets, {}});
       },
       {"stored", "2 dimensions [total, size]"}},
      {"offsets that end early",
       [&] {
         pool->pool_bags({bags.values, at::tensor({0, 2, 5}, at::kLong), {}});
       },
       {"offsets", "0 to 6", "0 to 5"}},
      {"values of other length",
       [&] {
         pool->pool_bags(bags, at::zeros({5, 8}));
       },
       {"projection", "6", "5"}},
      {"bags without offsets",
       [&] {
         pool->pool_bags({bags.values, {}, {}});
       },
       {"offsets"}},
      {"lookup width",
       [&] {
         lookup->forward(at::zeros({2, 4, 6}));
       },
       {"state", "size 8"}},
      {"lookup mask",
       [&] {
         lookup->forward(x, mask({2, 4}));
       },
       {"padding_mask", "[2, 5]"}},
      {"patterns of another width",
       [&] {
         lookup->set_patterns(at::zeros({5, 7}));
       },
       {"patterns", "[quantity, 8]", "[5, 7]"}},
      {"no patterns",
       [&] {
         lookup->set_patterns(at::zeros({0, 8}));
       },
       {"patterns", "[0, 8]"}},
      {"targets without own weights",
       [&] {
         lookup->set_patterns(at::zeros({5, 8}), at::zeros({5, 8}));
       },
       {"no targets", "lookup_weights_as_separated"}},
      {"targets missing",
       [&] {
         separated->set_patterns(at::zeros({5, 8}));
       },
       {"targets", "undefined"}},
      {"targets of other length",
       [&] {
         separated->set_patterns(at::zeros({5, 8}), at::zeros({4, 8}));
       },
       {"targets", "5 rows"}},
  };
  for (const auto& wrong : calls) expect_error(wrong);
  // Nothing was changed by any of them.
  EXPECT_EQ(lookup->lookup_weights.sizes(), at::IntArrayRef({1, 5, 8}));
  EXPECT_EQ(layer->forward(x).sizes(), x.sizes());
}

}  // namespace
}  // namespace hopfield::nn
