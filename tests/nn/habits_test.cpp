// What users of attention, of retrieve() and of Python's modules write first: it works, or the message says what to
// write instead.

#include "support/errors.h"
#include "support/naive.h"
#include <hopfield/hopfield.h>

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <sstream>

// Programs see no macro of this library: the headers' own one is undefined behind them.
#ifdef HOPFIELD_OPTION
#error "hopfield/hopfield.h leaves HOPFIELD_OPTION defined"
#endif

namespace hopfield::nn {
namespace {

using testing::bitwise_equal;
using testing::expect_error;
using testing::max_difference;
using testing::randn;

at::Tensor floats(at::IntArrayRef shape, uint64_t seed) { return randn(shape, seed).to(at::kFloat); }

TEST(Habits, QueryKeyValueInThatOrder) {
  Hopfield layer(HopfieldOptions(8).num_heads(2).stored_pattern_size(6).pattern_projection_size(5));
  const auto q = floats({3, 4, 8}, 1), k = floats({3, 7, 6}, 2), v = floats({3, 7, 5}, 3);
  EXPECT_EQ(layer->associate({q, k, v}).output.sizes(), at::IntArrayRef({3, 4, 8}));
  const auto padding = at::zeros({3, 7}, at::kBool);
  EXPECT_EQ(layer->associate({q, k, v}, {padding}).output.sizes(), at::IntArrayRef({3, 4, 8}));
  Hopfield same(HopfieldOptions(8).num_heads(2));
  const auto stored = floats({3, 7, 8}, 2);
  EXPECT_TRUE(bitwise_equal(same->associate({q, stored}).output, same->associate({q, stored, stored}).output));
}

TEST(Habits, OneSequenceWithoutABatch) {
  for (const bool batch_first : {true, false}) {
    const int64_t batch_dimension = batch_first ? 0 : 1;
    const auto x = floats({5, 8}, 1), memory = floats({7, 8}, 2);
    const auto batched = [&](const at::Tensor& tensor) { return tensor.unsqueeze(batch_dimension); };
    const auto padding = at::tensor({0, 0, 0, 1, 1}).to(at::kBool);
    const auto added = floats({5, 5}, 3);

    Hopfield layer(HopfieldOptions(8).num_heads(2).update_steps_max(1).batch_first(batch_first));
    const auto z = layer->forward(x, padding, added);
    EXPECT_EQ(z.sizes(), at::IntArrayRef({5, 8}));
    EXPECT_LT(max_difference(batched(z), layer->forward(batched(x), padding.unsqueeze(0), added)), 1e-6);
    Masks masks;
    masks.key_bias = floats({7}, 4);
    const auto one = layer->associate({x, memory}, masks, AssociationRequest().with_association().with_energy());
    EXPECT_EQ(one.association.sizes(), at::IntArrayRef({2, 5, 7}));
    EXPECT_EQ(one.energy.sizes(), at::IntArrayRef({2, 5}));
    EXPECT_EQ(layer->get_association_matrix({x, memory}).sizes(), at::IntArrayRef({2, 5, 7}));
    EXPECT_EQ(layer->get_projected_pattern_matrix({x, memory}).sizes(), at::IntArrayRef({2, 7, 4}));

    HopfieldPooling pool(HopfieldPoolingOptions(8).quantity(3).batch_first(batch_first));
    const auto pooled = pool->forward(x, padding);
    EXPECT_EQ(pooled.sizes(), at::IntArrayRef({24}));
    EXPECT_LT(max_difference(pooled.unsqueeze(0), pool->forward(batched(x), padding.unsqueeze(0))), 1e-6);
    EXPECT_EQ(pool->get_association_matrix({x}).sizes(), at::IntArrayRef({1, 3, 5}));

    HopfieldLayer lookup(HopfieldLayerOptions(8).quantity(7).batch_first(batch_first));
    const auto found = lookup->forward(x, at::zeros({7}, at::kBool));
    EXPECT_EQ(found.sizes(), at::IntArrayRef({5, 8}));
    EXPECT_LT(max_difference(batched(found), lookup->forward(batched(x))), 1e-6);
    EXPECT_EQ(lookup->get_association_matrix(x).sizes(), at::IntArrayRef({1, 5, 7}));

    HopfieldEncoderLayer encoder(HopfieldOptions(8).batch_first(batch_first));
    HopfieldDecoderLayer decoder(HopfieldDecoderLayerOptions(HopfieldOptions(8).batch_first(batch_first),
                                                             HopfieldOptions(8).batch_first(batch_first)));
    encoder->eval();
    decoder->eval();
    EXPECT_LT(max_difference(batched(encoder->forward(x)), encoder->forward(batched(x))), 1e-6);
    EXPECT_LT(max_difference(batched(decoder->forward(x, memory)), decoder->forward(batched(x), batched(memory))),
              1e-6);
  }
}

TEST(Habits, SequencesOfDifferentLengthsAttendToThemselves) {
  for (const auto& options :
       {HopfieldOptions(8).num_heads(2).update_steps_max(1), HopfieldOptions(8).num_heads(2).concat_bias_pattern(true),
        HopfieldOptions(8).add_zero_association(true).concat_bias_pattern(true)}) {
    Hopfield layer(options);
    const auto x = floats({9, 8}, 1), bias = floats({9}, 2);
    const auto offsets = at::tensor({int64_t{0}, int64_t{4}, int64_t{4}, int64_t{9}});
    const auto z = layer->associate_bags({x, x}, offsets, offsets, {{}, {}, bias}).output;
    ASSERT_EQ(z.sizes(), at::IntArrayRef({9, 8}));
    for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{{0, 4}, {4, 9}}) {
      const auto one = x.slice(0, begin, end);
      const auto expected = layer->associate({one, one}, {{}, {}, bias.slice(0, begin, end)}).output;
      EXPECT_LT(max_difference(z.slice(0, begin, end), expected), 1e-5);
    }
  }
}

TEST(Habits, NoBagsAtAllWithAppendedPatterns) {
  HopfieldPooling pool(HopfieldPoolingOptions(8).concat_bias_pattern(true));
  EXPECT_EQ(pool->pool_bags({at::zeros({0, 8}), at::zeros({1}, at::kLong), {}}).sizes(), at::IntArrayRef({0, 8}));
}

TEST(Habits, BagsAsAVector) {
  HopfieldPooling pool(HopfieldPoolingOptions(8).num_heads(2));
  const std::vector<at::Tensor> tensors{floats({4, 8}, 1), floats({1, 8}, 2)};
  const std::vector<Bag> bags{{tensors[0], 1.0}, {tensors[1], 0.0}};
  const auto expected = pool->pool_bags(BagBatch::from(bags));
  EXPECT_TRUE(bitwise_equal(pool->pool_bags(tensors), expected));
  EXPECT_TRUE(bitwise_equal(pool->pool_bags(bags), expected));
  EXPECT_TRUE(bitwise_equal(pool->pool_bags(BagBatch::from({tensors[0], tensors[1]})), expected));
  EXPECT_FALSE(BagBatch::from(tensors).labels.defined());
}

TEST(Habits, RaggedBagsTakeAKeyBias) {
  for (const auto type : {at::kFloat, at::kDouble}) {  // absorbed, and by projected patterns
    HopfieldPooling pool(HopfieldPoolingOptions(8).num_heads(2));
    pool->to(type);
    const auto bags = BagBatch::from({randn({4, 8}, 1).to(type), randn({3, 8}, 2).to(type)});
    auto bias = at::zeros({7}, type);
    bias[1].fill_(-INFINITY);
    auto spoilt = bags;
    spoilt.values = bags.values.clone();
    spoilt.values[1].fill_(NAN);
    const auto pooled = pool->associate_bags(spoilt, {}, {{}, {}, bias}).output;
    const auto expected = pool->pool_bags(BagBatch::from(
        {at::cat({bags.values.slice(0, 0, 1), bags.values.slice(0, 2, 4)}), bags.values.slice(0, 4, 7)}));
    EXPECT_LT(max_difference(pooled.to(at::kDouble), expected.to(at::kDouble)), 1e-5) << type;
  }
}

TEST(Habits, BetaIsAnotherNameOfScaling) {
  Hopfield layer(HopfieldOptions(8).beta(0.7));
  EXPECT_NEAR(layer->association_core->beta().item<double>(), 0.7, 1e-7);
  EXPECT_EQ(layer->options.beta()->values(), layer->options.scaling()->values());
  EXPECT_EQ(layer->options.num_heads(), 1);
}

TEST(Habits, ModulesLikeAnyOther) {
  torch::nn::Sequential model(torch::nn::Linear(6, 8), Hopfield(HopfieldOptions(8).num_heads(2)));
  EXPECT_EQ(model->forward(floats({2, 5, 6}, 1)).sizes(), at::IntArrayRef({2, 5, 8}));
  Hopfield layer(HopfieldOptions(8).num_heads(2)), other(HopfieldOptions(8).num_heads(2));
  const auto x = floats({2, 5, 8}, 1);
  EXPECT_TRUE(bitwise_equal(layer(x), layer->forward(x)));
  std::stringstream stream;
  torch::save(layer, stream);
  torch::load(other, stream);
  EXPECT_TRUE(bitwise_equal(layer(x), other(x)));
  layer->to(torch::kBFloat16);
  EXPECT_EQ(layer(x.to(at::kBFloat16)).scalar_type(), at::kBFloat16);
}

TEST(Habits, RetrieveTakesTwoToFourDimensions) {
  const auto q = floats({2, 3, 4, 5}, 1), k = floats({2, 3, 6, 5}, 2);
  EXPECT_EQ(retrieve(q, k).output.dim(), 4);
  EXPECT_EQ(retrieve(q[0], k[0]).output.dim(), 3);
  EXPECT_EQ(retrieve(q[0][0], k[0][0]).output.dim(), 2);
  EXPECT_EQ(retrieve({q, k}).output.dim(), 4);
  expect_error({"one query", [&] { retrieve(q[0][0][0], k[0][0]); }, {"hopfield::retrieve", "state.unsqueeze(0)"}});
}

TEST(Habits, MessagesPointTheWay) {
  Hopfield layer(HopfieldOptions(8).num_heads(2));
  HopfieldPooling pool(HopfieldPoolingOptions(8));
  HopfieldLayer lookup(HopfieldLayerOptions(8).quantity(5));
  const auto x = at::zeros({2, 4, 8}), k = at::zeros({2, 7, 8});
  const auto offsets = at::tensor({0, 3, 8});
  Masks causal;
  causal.is_causal = true;
  Hopfield appending(HopfieldOptions(8).add_zero_association(true));
  const std::vector<testing::WrongCall> all{
      {"causal bags with appended patterns",
       [&] {
         appending->associate_bags({x[0], x[0]}, at::tensor({0, 4}), at::tensor({0, 4}), causal);
       },
       {"hopfield::nn::Hopfield", "appended", "is_causal"}},
      {"forward(q, k, v)", [&] { layer->forward(x, k, k); }, {"hopfield::nn::Hopfield", "associate({state, stored"}},
      {"a mask of scores",
       [&] {
         layer->forward(x, at::zeros({4, 4}, at::kBool));
       },
       {"padding_mask", "association_mask"}},
      {"an added mask",
       [&] {
         layer->forward(x, at::zeros({4, 4}));
       },
       {"padding_mask", "association_mask"}},
      {"an added padding",
       [&] {
         layer->forward(x, at::zeros({2, 4}));
       },
       {"padding_mask", "bool", "key_bias"}},
      {"causal lookup", [&] { lookup->associate(x, causal); }, {"hopfield::nn::HopfieldLayer", "is_causal"}},
      {"causal pooling", [&] { pool->associate({x}, causal); }, {"hopfield::nn::HopfieldPooling", "is_causal"}},
      {"pooling's name",
       [&] {
         pool->forward(at::zeros({2, 4, 7}));
       },
       {"hopfield::nn::HopfieldPooling", "[2, 4, 7]"}},
      {"lookup's name",
       [&] {
         lookup->forward(at::zeros({2, 4, 7}));
       },
       {"hopfield::nn::HopfieldLayer", "[2, 4, 7]"}},
      {"an option's name",
       [&] { HopfieldPooling(HopfieldPoolingOptions(8).dropout(2)); },
       {"hopfield::nn::HopfieldPooling", "dropout", "2"}},
      {"pool's masks",
       [&] {
         pool->associate_bags({at::zeros({8, 8}), offsets, {}}, {}, {{}, {}, at::zeros({7})});
       },
       {"hopfield::nn::HopfieldPooling", "key_bias", "[8]", "[7]"}},
      {"ragged padding mask",
       [&] {
         layer->associate_bags({x, at::zeros({8, 8})}, {}, offsets, {at::zeros({2, 4}, at::kBool)});
       },
       {"padding_mask", "ragged"}},
      {"no offsets",
       [&] {
         layer->associate_bags({x, x}, {}, {});
       },
       {"offsets", "associate()"}},
      {"ragged queries alone",
       [&] {
         layer->associate_bags({at::zeros({8, 8}), x}, offsets, {});
       },
       {"offsets"}},
      {"one of two without a batch",
       [&] {
         layer->associate({at::zeros({4, 8}), x});
       },
       {"state", "3 dimensions"}},
      {"stored alone", [&] { layer->associate({x}); }, {"stored", "undefined"}},
      {"nothing", [&] { layer->associate({}); }, {"state", "undefined"}},
      {"lengths in place of offsets",
       [&] {
         pool->pool_bags({at::zeros({8, 8}), at::tensor({3, 5}), {}});
       },
       {"offsets", "cumsum"}},
      {"no bags", [&] { pool->pool_bags(std::vector<at::Tensor>{}); }, {"at least one bag"}},
      {"bags of other widths",
       [&] {
         pool->pool_bags(std::vector<at::Tensor>{x[0], at::zeros({2, 7})});
       },
       {"bag 1", "8"}},
      {"a sparse input", [&] { layer->forward(x.to_sparse()); }, {"hopfield::nn::Hopfield", "dense", "Sparse"}},
      {"a sparse bag", [&] { BagBatch::from({x[0].to_sparse()}); }, {"hopfield::BagBatch::from", "dense", "Sparse"}},
      {"sparse offsets",
       [&] {
         retrieve({x, at::zeros({8, 8}), {}, {}, offsets.to_sparse()});
       },
       {"hopfield::retrieve", "offsets", "dense"}},
      {"top of many", [&] { top_instances(x, offsets, 2); }, {"scores", "[total]", "select"}},
      {"top of none", [&] { top_instances(at::zeros({8}), offsets, 0); }, {"k", "0"}},
      {"top of other bags", [&] { top_instances(at::zeros({9}), offsets, 1); }, {"offsets", "9", "8"}}};
  for (const auto& wrong : all) expect_error(wrong);
}

TEST(Habits, AMemoryOfAnotherSizeSaysHowToLoadIt) {
  HopfieldLayer full(HopfieldLayerOptions(8).trainable(false)), fresh(HopfieldLayerOptions(8).trainable(false));
  full->set_patterns(floats({100, 8}, 1));
  const auto path = ::testing::TempDir() + "habits_memory.safetensors";
  io::save_module(path, *full);
  expect_error({"fresh", [&] { io::load_module(path, *fresh); }, {"lookup_weights", "quantity", "set_patterns()"}});
  fresh->set_patterns(at::zeros({100, 8}));
  io::load_module(path, *fresh);
  EXPECT_TRUE(bitwise_equal(fresh->lookup_weights, full->lookup_weights));
}

TEST(Habits, TheInstancesThatDecided) {
  const auto scores = at::tensor({0.5, 2.0, 1.0, 7.0, -1.0}, at::kDouble);
  const auto best = top_instances(scores, at::tensor({0, 3, 3, 5}), 2);
  EXPECT_TRUE(best.indices.equal(at::tensor({1, 2, -1, -1, 0, 1}, at::kLong).view({3, 2})));
  EXPECT_EQ(best.values[0][0].item<double>(), 2.0);
  EXPECT_EQ(best.values[2][1].item<double>(), -1.0);
  EXPECT_TRUE(at::isnan(best.values[1]).all().item<bool>());
}

}  // namespace
}  // namespace hopfield::nn
